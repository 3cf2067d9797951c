// A model file of edgelabel in Go: loaded once, then a function call a text.
// The exports it calls are described in docs/runtimes.md.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

const textCapacity = 1 << 20

// A Classifier answers one goroutine at a time.
type Classifier struct {
	memory           api.Memory
	text, line       uint32
	classify, render api.Function
}

func Open(ctx context.Context, path string) (*Classifier, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	runtime := wazero.NewRuntime(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	// Without start functions: _start would read standard input as a program.
	module, err := runtime.InstantiateWithConfig(ctx, file, wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		return nil, err
	}
	call := func(name string) uint32 {
		results, failed := module.ExportedFunction(name).Call(ctx)
		if failed != nil {
			err = failed
			return 0
		}
		return uint32(results[0])
	}
	if status := call("loadEmbedded"); status != 0 {
		return nil, fmt.Errorf("%s: status %d", path, status)
	}
	return &Classifier{module.Memory(), call("textPtr"), call("linePtr"),
		module.ExportedFunction("classify"), module.ExportedFunction("renderLine")}, err
}

// Classify gives the answer to a text in UTF-8: one line of JSON with all scores, valid until the next call.
func (c *Classifier) Classify(ctx context.Context, text []byte) ([]byte, error) {
	if len(text) > textCapacity {
		return nil, fmt.Errorf("the text is longer than 1 MiB")
	}
	c.memory.Write(c.text, text)
	status, err := c.classify.Call(ctx, uint64(len(text)))
	if err != nil {
		return nil, err
	}
	if status[0] != 0 {
		return nil, fmt.Errorf("classify: status %d", status[0])
	}
	length, err := c.render.Call(ctx, 1, 0)
	if err != nil {
		return nil, err
	}
	line, _ := c.memory.Read(c.line, uint32(length[0]))
	return line, nil
}

func main() {
	ctx := context.Background()
	classifier, err := Open(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in := bufio.NewReader(os.Stdin); ; {
		text, end := in.ReadBytes('\n')
		if end == io.EOF && len(text) == 0 {
			return
		}
		line, err := classifier.Classify(ctx, bytes.TrimSuffix(text, []byte("\n")))
		if err != nil {
			log.Fatal(err)
		}
		out.Write(line)
	}
}
