// The command: lines on stdin -> one result line each on stdout. Results are written together, but
// before the next read, so that `… | wasmtime run MODEL.wasm | …` answers at once. The only file that knows
// WASI (preview 1). Exit code 0 when the input ended or the reader went away, 1 when
// something failed, 2 on misuse.
//
// A line ends at "\n"; a "\r" before it is no part of the text either (engine.ts); a last line
// needs no end. Empty lines are classified like any text, invalid UTF-8 reads as U+FFFD, and
// of a line above TEXT_CAPACITY bytes the first TEXT_CAPACITY count (a note goes to stderr).
// A byte order mark at the start is dropped; that of UTF-16, and "\r" alone for line ends, are
// errors. Else there is one line out for one line in.
import { ERR_NO_MODEL, ERR_NOT_FINITE, OK, TEXT_CAPACITY } from "./abi";
import { allocate } from "./arena";
import { classify, loadEmbedded, textPtr } from "./engine";
import { linePtr, prepareLine, renderLine } from "./render";

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: u32, iovs: usize, iovsLength: u32, read: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, iovs: usize, iovsLength: u32, written: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "args_sizes_get")
declare function args_sizes_get(count: usize, bytes: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "args_get")
declare function args_get(pointers: usize, bytes: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(code: u32): void;

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const ERRNO_AGAIN: u32 = 6;
const ERRNO_INTR: u32 = 27;
const ERRNO_PIPE: u32 = 64;
/** The error that wasmtime reports for a closed pipe. (A full disk is NOSPC, which remains an error.) */
const ERRNO_IO: u32 = 29;
const INPUT_BYTES: u32 = 65536;
/** A call of fd_write takes as long as a small model, so lines share one. So few that they do not wait for long. */
const OUTPUT_BYTES: u32 = 4096;

/** iovec { buf, len } and the count that the call returns. */
const IOVEC = memory.data(16, 16);

let json: bool = false;
let top: u32 = 0;
let isFirst: bool = true; // no line has been answered yet
let output: usize = 0; // u8[OUTPUT_BYTES]
let outputLength: u32 = 0; // bytes of it that are still to be written

export function _start(): void {
  const status = loadEmbedded();
  if (status == ERR_NO_MODEL)
    fail("this module holds no model; pack one with: edgelabel pack MODEL.elb -o MODEL.wasm\n", 1);
  if (status != OK || !prepareLine()) fail("the packed model is damaged or does not fit in memory\n", 1);
  readArguments();
  readLines();
}

function readArguments(): void {
  if (args_sizes_get(IOVEC, IOVEC + 4) != 0) fail("cannot read the arguments\n", 1);
  const count = load<u32>(IOVEC);
  const bytes = load<u32>(IOVEC, 4);
  const pointers = allocate(<usize>count * 4 + 16);
  const strings = allocate(bytes + 16);
  if (!pointers || !strings || args_get(pointers, strings) != 0) fail("cannot read the arguments\n", 1);
  for (let i: u32 = 1; i < count; i++) {
    const argument = load<u32>(pointers + ((<usize>i) << 2));
    if (equals(argument, "--json")) json = true;
    else if (equals(argument, "--top") && i + 1 < count) {
      i++;
      top = parseCount(load<u32>(pointers + ((<usize>i) << 2)));
    } else if (equals(argument, "--help") || equals(argument, "-h")) {
      writeHelp();
      proc_exit(0);
    } else fail("unknown or incomplete argument; see --help\n", 2);
  }
}

function writeHelp(): void {
  write(STDOUT, "usage: wasmtime run MODEL.wasm [--json] [--top N] < lines\n\n");
  write(STDOUT, "Classifies each line of standard input and prints one line for it at once:\n");
  write(STDOUT, "  label<TAB>score\n\n");
  write(STDOUT, '  --json   one JSON object a line: {"label":...,"score":...,"scores":{...}}\n');
  write(STDOUT, "  --top N  the N best labels, best first\n");
  write(STDOUT, "  --help   this text\n");
}

/** A whole number from 1 to 9999, or exit 2. */
function parseCount(text: usize): u32 {
  let value: u32 = 0;
  let p = text;
  for (; load<u8>(p) >= 0x30 && load<u8>(p) <= 0x39 && p - text < 4; p++) value = value * 10 + load<u8>(p) - 0x30;
  if (load<u8>(p) != 0 || value == 0) fail("--top takes a whole number from 1 to 9999\n", 2);
  return value;
}

function readLines(): void {
  const input = allocate(INPUT_BYTES);
  output = allocate(OUTPUT_BYTES);
  if (!input || !output) fail("out of memory\n", 1);
  let length: u32 = 0; // bytes of the current line kept at textPtr()
  let isCut = false;
  let isOpen = false; // a line has begun
  while (true) {
    flush();
    const got = read(input);
    if (got == 0) break;
    let start: u32 = 0;
    for (let i: u32 = 0; i < got; i++) {
      if (load<u8>(input + i) != 0x0a) continue;
      if (append(input + start, i - start, length)) isCut = true;
      answer(min(length + i - start, TEXT_CAPACITY), isCut);
      start = i + 1;
      length = 0;
      isCut = false;
      isOpen = false;
    }
    if (start < got) {
      if (append(input + start, got - start, length)) isCut = true;
      length = min(length + got - start, TEXT_CAPACITY);
      isOpen = true;
    }
  }
  if (isOpen) {
    if (isFirst && hasReturn(length))
      fail(
        "standard input: uses \\r as line ends, as old Mac programs do; save it with \\n, or convert it with tr '\\r' '\\n'\n",
        1,
      );
    answer(length, isCut);
    flush();
  }
  proc_exit(0);
}

/** Whether there is a carriage return before the last byte. */
function hasReturn(length: u32): bool {
  for (let i: u32 = 1; i < length; i++) {
    if (load<u8>(textPtr() + i - 1) == 0x0d) return true;
  }
  return false;
}

/** Copies bytes behind the `length` already kept; true when some had to be left out. */
function append(bytes: usize, count: u32, length: u32): bool {
  const room = <u32>TEXT_CAPACITY - length;
  memory.copy(textPtr() + length, bytes, min(count, room));
  return count > room;
}

function answer(length: u32, isCut: bool): void {
  if (isCut) {
    flush();
    write(STDERR, "edgelabel: a line is longer than 1048576 bytes; its beginning was classified\n");
  }
  if (isFirst) length = withoutMark(length);
  isFirst = false;
  const status = classify(length);
  if (status == ERR_NOT_FINITE) fail("the model's weights overflow; train or quantize it again\n", 1);
  if (status != OK) fail("classification failed\n", 1);
  const line = renderLine(json, top);
  if (outputLength + line > OUTPUT_BYTES) flush();
  if (line > OUTPUT_BYTES) return writeBytes(STDOUT, linePtr(), line);
  memory.copy(output + outputLength, linePtr(), line);
  outputLength += line;
}

/** Writes the answers that wait. */
function flush(): void {
  writeBytes(STDOUT, output, outputLength);
  outputLength = 0;
}

/** Takes a byte order mark off the line; returns the length that is left. */
function withoutMark(length: u32): u32 {
  const text = textPtr();
  if (length < 2) return length;
  const mark = load<u16>(text);
  if (mark == 0xfeff || mark == 0xfffe)
    fail("standard input: is UTF-16, as some Windows programs write it; save it as UTF-8\n", 1);
  if (length < 3 || mark != 0xbbef || load<u8>(text, 2) != 0xbf) return length;
  memory.copy(text, text + 3, length - 3);
  return length - 3;
}

/** Reads up to INPUT_BYTES; 0 at the end of the input. */
function read(target: usize): u32 {
  while (true) {
    store<u32>(IOVEC, <u32>target);
    store<u32>(IOVEC, INPUT_BYTES, 4);
    const errno = fd_read(STDIN, IOVEC, 1, IOVEC + 8);
    if (errno == 0) return load<u32>(IOVEC, 8);
    if (errno != ERRNO_INTR && errno != ERRNO_AGAIN) fail("cannot read standard input\n", 1);
  }
}

function writeBytes(fd: u32, bytes: usize, length: u32): void {
  while (length > 0) {
    store<u32>(IOVEC, <u32>bytes);
    store<u32>(IOVEC, length, 4);
    const errno = fd_write(fd, IOVEC, 1, IOVEC + 8);
    if (errno == ERRNO_INTR || errno == ERRNO_AGAIN) continue;
    if (errno == ERRNO_PIPE || errno == ERRNO_IO) proc_exit(0); // the reader has seen enough
    if (errno != 0) {
      if (fd != STDERR) write(STDERR, "edgelabel: cannot write standard output\n");
      proc_exit(1);
    }
    bytes += load<u32>(IOVEC, 8);
    length -= load<u32>(IOVEC, 8);
  }
}

/** Writes a literal of ASCII. */
function write(fd: u32, text: string): void {
  for (let i = 0; i < text.length; i++) store<u8>(ASCII + i, <u8>text.charCodeAt(i));
  writeBytes(fd, ASCII, text.length);
}

/** Where write() narrows a literal to bytes. */
const ASCII = memory.data(1024);

function fail(message: string, code: u32): void {
  flush();
  write(STDERR, "edgelabel: ");
  write(STDERR, message);
  proc_exit(code);
}

function equals(argument: usize, text: string): bool {
  for (let i = 0; i < text.length; i++) {
    if (load<u8>(argument + i) != <u8>text.charCodeAt(i)) return false;
  }
  return load<u8>(argument + text.length) == 0;
}
