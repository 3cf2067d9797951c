// The contract between the engine and everything around it: every number that
// both sides know is defined here and nowhere else. Plain TypeScript that two
// compilers read: asc for the engine, tsc for the host and the tests.
// Values stay below 2^31, since asc gives an untyped constant the type i32.

/** Raised whenever an export changes its name, arguments or meaning. */
export const ABI_VERSION = 1;

// --- capacities ------------------------------------------------------------

/** Longest text, in bytes of UTF-8, that the engine takes at once (1 MiB). */
export const TEXT_CAPACITY = 1048576;
/** Longest name, version, filter set or separator, in bytes of UTF-8. */
export const MAX_NAME_BYTES = 4096;
/** Largest padded sequence length, in tokens. */
export const MAX_SEQUENCE = 4096;
/** Largest vocabulary and largest number of hashed n-gram buckets, in rows. */
export const MAX_ROWS = 1048576;
/** Largest embedding width, number of units and Dense width. */
export const MAX_WIDTH = 1024;
/** Largest number of labels: the last Dense layer has a unit for each. */
export const MAX_LABELS = 1024;
/** Longest label and longest vocabulary word, in bytes of UTF-8. */
export const MAX_LABEL_BYTES = 256;
export const MAX_WORD_BYTES = 4096;
/** Longest hashed character n-gram, in code points. */
export const MAX_NGRAM = 8;
/** Largest number of hashed n-grams of one word; the rest of a longer word is ignored. */
export const MAX_NGRAMS_PER_WORD = 64;
/** Largest size of the input tables of prepare.ts, in bytes of linear memory. */
export const TABLE_BUDGET = 33554432;
export const MAX_LAYERS = 16;
/** Most multiplications that a text may take, in units of 2^20: on a server core 0.6 s with int8 weights, 2.2 s with f32. */
export const MAX_TEXT_WORK = 8192;
/** Trainers that can share a batch. */
export const MAX_WORKERS = 64;
/** Masks that the last dropout can draw for a sample. */
export const MAX_DROPOUT_SAMPLES = 16;
/** Largest number of pieces in an explanation: tokens, or runs of tokens in a text that has more. */
export const MAX_PIECES = 128;

// --- status codes: what an export that can fail returns ---------------------

export const OK = 0;
export const ERR_OUT_OF_MEMORY = 1;
export const ERR_NO_MODEL = 2;
export const ERR_BAD_STATE = 3;
export const ERR_TEXT_TOO_LONG = 4;
export const ERR_BAD_MAGIC = 10;
export const ERR_BAD_VERSION = 11;
export const ERR_BAD_LENGTH = 12;
export const ERR_BAD_CHECKSUM = 13;
export const ERR_BAD_HEADER = 14;
export const ERR_BAD_TOKENIZER = 15;
export const ERR_BAD_VOCABULARY = 16;
export const ERR_BAD_LABELS = 17;
export const ERR_BAD_LAYERS = 18;
export const ERR_BAD_SCALE = 19;
export const ERR_BAD_WEIGHT = 20;
export const ERR_BAD_TRAINING = 21;
export const ERR_BAD_UTF8 = 22;
export const ERR_BAD_PADDING = 23;
export const ERR_TOO_SLOW = 24;
export const ERR_BAD_LINEAR = 25;
export const ERR_BAD_ARGUMENT = 30;
export const ERR_LABEL_OUT_OF_RANGE = 31;
export const ERR_NO_SAMPLES = 32;
export const ERR_NOT_FINITE = 33;
export const ERR_BAD_VECTORS = 34;

// --- model file: assembly/FORMAT.md ------------------------------------------

/** "ELBM" in file order. */
export const FORMAT_MAGIC = 0x4d424c45;
export const FORMAT_VERSION = 1;
/** f32 weights in Keras' layout. */
export const FORM_F32 = 1;
/** int8 weights; int8 x int16 products in i32, f32 cell state. */
export const FORM_INT8 = 2;
/** int8 weights that the loader turns into f32; f32 arithmetic. */
export const FORM_INT8_WEIGHTS = 3;

// --- tokenizer ---------------------------------------------------------------

/** Lower-case as Python's str.lower does. */
export const TOKENIZER_LOWER = 1;
/** Every code point is a token; filters and the separator are not used. */
export const TOKENIZER_CHAR_LEVEL = 2;
/** Every letter of a script written without spaces is a token of its own. */
export const TOKENIZER_SPLIT_SCRIPTS = 4;
/** Pad behind the tokens instead of before them. */
export const TOKENIZER_PAD_POST = 8;
/** Cut the end of a long sequence instead of its beginning. */
export const TOKENIZER_TRUNCATE_POST = 16;
/** A letter of such a script also gets a hashed row for the pair with the letter before it. */
export const TOKENIZER_LETTER_PAIRS = 32;
/** All of the above. */
export const TOKENIZER_FLAGS = 63;

/** Marks a token's context row (see ngram.ts), which is added to the mean of its other rows. */
export const CONTEXT_ROW = 0x40000000;

// --- cleaning: assembly/text/clean.ts -----------------------------------------------

/** Tags are dropped, character references decoded. */
export const CLEAN_MARKUP = 1;
/** A URL is one token <url>, an e-mail address one token <email>. */
export const CLEAN_URLS = 2;
/** Numbers are their shape: 1234567.5 -> 0000.0 */
export const CLEAN_NUMBERS = 4;
/** A letter written more than twice in a row is written twice. */
export const CLEAN_REPEATS = 8;
/** Full-width ASCII and half-width katakana get their normal width. */
export const CLEAN_WIDTH = 16;
/** Latin letters lose their diacritics. */
export const CLEAN_ACCENTS = 32;
/** A letter and the marks behind it are one code point, where Unicode has it. */
export const CLEAN_COMPOSE = 64;
/** What shows nothing is dropped; apostrophes are one; a symbol is a token; punctuation parts words. */
export const CLEAN_NORMALIZE = 128;
/** Punctuation is a token, which is skipped where the vocabulary lacks it. */
export const CLEAN_PUNCTUATION = 256;
/** All of the above. */
export const CLEAN_FLAGS = 511;

// --- layers --------------------------------------------------------------------

export const LAYER_EMBEDDING = 1;
export const LAYER_LSTM = 2;
export const LAYER_POOL = 3;
export const LAYER_DENSE = 4;
export const LAYER_DROPOUT = 5;
/** minGRU: recurrent like LSTM, but its gates depend on the token alone. */
export const LAYER_MINGRU = 6;

/** Embedding: row 0 is padding, and padded steps are skipped. */
export const LAYER_MASK_ZERO = 1;
/** LSTM, minGRU: reads the sequence both ways and concatenates [forward, backward]. */
export const LAYER_BIDIRECTIONAL = 2;
/** LSTM, minGRU: yields every step's state instead of the last one. */
export const LAYER_SEQUENCES = 4;
/** Pool: largest value over time, per channel. */
export const LAYER_POOL_MAX = 8;
/** Pool: mean over time, per channel. Both flags: [max, mean] side by side. */
export const LAYER_POOL_MEAN = 16;
/** Dropout: drops whole channels of a sequence, for all its steps. */
export const LAYER_SPATIAL = 32;

export const ACTIVATION_LINEAR = 0;
export const ACTIVATION_SIGMOID = 1;
export const ACTIVATION_TANH = 2;
export const ACTIVATION_RELU = 3;
export const ACTIVATION_SOFTMAX = 4;

// --- training --------------------------------------------------------------------

export const LOSS_BINARY_CROSSENTROPY = 1;
export const LOSS_MEAN_SQUARED_ERROR = 2;
export const LOSS_CATEGORICAL_CROSSENTROPY = 3;

export const OPTIMIZER_SGD = 1;
export const OPTIMIZER_ADAM = 2;

/** Training flag. SGD: Nesterov momentum. */
export const OPTIMIZER_NESTEROV = 1;
/** Training flag. Keeps room for a moving average of the parameters. */
export const OPTIMIZER_AVERAGE = 4;
/** Training flag. Adam and clipping square an embedding row's gradient token by token before summing, as Keras does. */
export const OPTIMIZER_PER_TOKEN = 8;

export const SCHEDULE_CONSTANT = 0;
export const SCHEDULE_LINEAR = 1;
export const SCHEDULE_COSINE = 2;

/** Label smoothing of the default recipe, beside whose network the linear part takes its share. */
export const LABEL_SMOOTHING = 0.1;

// --- answers to labelled texts: assembly/train/measure/answers.ts ------------------------------

/** The answer is the true label. */
export const ANSWER_RIGHT = 0;
/** The answer is another label. */
export const ANSWER_WRONG = 1;
/** Any answer to a text whose true label the model lacks. */
export const ANSWER_UNKNOWN = 2;

// --- files of word vectors: assembly/train/vectors.ts -------------------------------------------

/** Largest number of numbers of a vector. */
export const MAX_DIMENSIONS = 4096;

// What is wrong with a file.
export const VECTORS_NO_NUMBERS = 1;
export const VECTORS_BAD_HEADER = 2;
export const VECTORS_OTHER_WIDTH = 3;
export const VECTORS_BAD_NUMBER = 4;
export const VECTORS_CUT_OFF = 5;
