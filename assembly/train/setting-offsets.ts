// Offsets of the fields of Settings, exported so that the host can write them by name. A separate
// file because a module's entry can re-export all of it, which fails for a file with a class.
import { Settings } from "./settings";

export const SETTINGS_loss = offsetof<Settings>("loss");
export const SETTINGS_optimizer = offsetof<Settings>("optimizer");
export const SETTINGS_optimizerFlags = offsetof<Settings>("optimizerFlags");
export const SETTINGS_schedule = offsetof<Settings>("schedule");
export const SETTINGS_beta1 = offsetof<Settings>("beta1");
export const SETTINGS_beta2 = offsetof<Settings>("beta2");
export const SETTINGS_epsilon = offsetof<Settings>("epsilon");
export const SETTINGS_clipNorm = offsetof<Settings>("clipNorm");
export const SETTINGS_weightDecay = offsetof<Settings>("weightDecay");
export const SETTINGS_learningRate = offsetof<Settings>("learningRate");
export const SETTINGS_warmup = offsetof<Settings>("warmup");
export const SETTINGS_decay = offsetof<Settings>("decay");
export const SETTINGS_labelSmoothing = offsetof<Settings>("labelSmoothing");
export const SETTINGS_wordDropout = offsetof<Settings>("wordDropout");
export const SETTINGS_averageDecay = offsetof<Settings>("averageDecay");
export const SETTINGS_isBalanced = offsetof<Settings>("isBalanced");
export const SETTINGS_addsNgrams = offsetof<Settings>("addsNgrams");
export const SETTINGS_epochs = offsetof<Settings>("epochs");
export const SETTINGS_batch = offsetof<Settings>("batch");
export const SETTINGS_seed = offsetof<Settings>("seed");
export const SETTINGS_epochsDone = offsetof<Settings>("epochsDone");
export const SETTINGS_sampleCount = offsetof<Settings>("sampleCount");
export const SETTINGS_sampleChecksum = offsetof<Settings>("sampleChecksum");
export const SETTINGS_deletion = offsetof<Settings>("deletion");
export const SETTINGS_swap = offsetof<Settings>("swap");
export const SETTINGS_synonyms = offsetof<Settings>("synonyms");
export const SETTINGS_typos = offsetof<Settings>("typos");
export const SETTINGS_synonymChecksum = offsetof<Settings>("synonymChecksum");
export const SETTINGS_workers = offsetof<Settings>("workers");
export const SETTINGS_dropoutSamples = offsetof<Settings>("dropoutSamples");
export const SETTINGS_perturbation = offsetof<Settings>("perturbation");
export const SETTINGS_BYTES = offsetof<Settings>();
