// A model file of edgelabel in Rust: loaded once, then a function call a text.
// The exports it calls are described in docs/runtimes.md.
use std::io::{BufRead, BufWriter, Write};
use wasmtime::{Engine, Error, Instance, Linker, Memory, Module, Result, Store, TypedFunc};

const TEXT_CAPACITY: usize = 1 << 20;

struct Classifier {
    store: Store<()>,
    memory: Memory,
    text: usize,
    line: usize,
    classify: TypedFunc<u32, u32>,
    render: TypedFunc<(u32, u32), u32>,
}

impl Classifier {
    fn open(path: &str) -> Result<Self> {
        let engine = Engine::default();
        let module = Module::from_file(&engine, path)?;
        let mut store = Store::new(&engine, ());
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&module)?; // it needs no WASI as a library
        let instance = linker.instantiate(&mut store, &module)?;
        let status = call(&mut store, &instance, "loadEmbedded")?;
        if status != 0 {
            return Err(Error::msg(format!("{path}: status {status}")));
        }
        Ok(Self {
            memory: instance.get_memory(&mut store, "memory").unwrap(),
            text: call(&mut store, &instance, "textPtr")? as usize,
            line: call(&mut store, &instance, "linePtr")? as usize,
            classify: instance.get_typed_func(&mut store, "classify")?,
            render: instance.get_typed_func(&mut store, "renderLine")?,
            store,
        })
    }

    /// The answer to a text in UTF-8: one line of JSON with all scores.
    fn classify(&mut self, text: &[u8]) -> Result<&[u8]> {
        if text.len() > TEXT_CAPACITY {
            return Err(Error::msg("the text is longer than 1 MiB"));
        }
        self.memory.write(&mut self.store, self.text, text)?;
        let status = self.classify.call(&mut self.store, text.len() as u32)?;
        if status != 0 {
            return Err(Error::msg(format!("classify: status {status}")));
        }
        let length = self.render.call(&mut self.store, (1, 0))? as usize;
        Ok(&self.memory.data(&self.store)[self.line..self.line + length])
    }
}

fn call(store: &mut Store<()>, instance: &Instance, name: &str) -> Result<u32> {
    instance.get_typed_func::<(), u32>(&mut *store, name)?.call(store, ())
}

fn main() -> Result<()> {
    let mut classifier = Classifier::open(&std::env::args().nth(1).expect("usage: classify MODEL.wasm < LINES"))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for text in std::io::stdin().lock().split(b'\n') {
        out.write_all(classifier.classify(&text?)?)?;
    }
    Ok(())
}
