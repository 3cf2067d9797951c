// The trainer's public exports, for the host: build a model, train it, write its file.
// Every export that can fail returns OK or an ERR_* code of abi.ts.
import { ABI_VERSION } from "../abi";

export {
  beginModel,
  inputPtr,
  setTokenizer,
  setCleaning,
  setFilters,
  setSplit,
  setName,
  setVersion,
  addWord,
  setUnknownId,
  addLabel,
  setMultiLabel,
  isMultiLabel,
  startTokens,
  nextToken,
  tokenPtr,
  tokenBytes,
  countText,
  startTexts,
  addText,
  textsWithin,
  textsWithOwnWord,
  fitVocabulary,
  wordCount,
  addLayer,
  labelCount,
  labelPtr,
  labelBytes,
  describeModel,
  addSample,
  buildNetwork,
  reserveFile,
  openFile,
} from "./builder";
export {
  layerCount,
  layerKind,
  layerFlags,
  layerActivation,
  layerUnits,
  layerRate,
  wordRows,
  wordPtr,
  wordBytes,
  unknownId,
  filtersPtr,
  filtersBytes,
  splitPtr,
  splitBytes,
  foldTemperature,
  onnxGates,
} from "./export";
export { fitLinear } from "./linear";
export { measureTensor } from "./measure/distortion";
export {
  reserveModel,
  loadModel,
  textPtr,
  isMultiLabel as loadedMultiLabel,
  labelCount as loadedLabelCount,
  labelPtr as loadedLabelPtr,
  labelBytes as loadedLabelBytes,
} from "../engine";
export {
  startAnswers,
  addAnswer,
  answerCount,
  rejectedCount,
  fitRejection,
  fitThreshold,
  setRule,
  ruleScore,
  ruleMargin,
  ruleUnknown,
  scoreAtCoverage,
  riskCoverageArea,
  unknownRanking,
} from "./measure/answers";
export {
  changeSettings,
  settledFile,
  startLogits,
  addLogits,
  fitTemperature,
  logLoss,
  calibrationError,
} from "./measure/calibrate";
export { prepareGradients, integrateGradients } from "./measure/attribution";
export { pieceCount, pieceStart, pieceEnd, pieceShare, explainedLabel, explainedScore, baseScore } from "../explain";
export {
  networkTensorCount as tensorCount,
  networkTensorPtr as tensorPtr,
  networkTensorLength as tensorLength,
} from "./network";
export { sharePtr, shareBytes, shareCapacity } from "./share";
export { pruneModel } from "./prune";
export { addSet, addSetLabel } from "./sets";
export * from "./setting-offsets";
export { settingsPtr, workers } from "./settings";
export {
  addSynonym,
  addValidation,
  startTraining,
  resumeTraining,
  epochsLeft,
  isPerturbed,
  batchesLeft,
  beginEpoch,
  trainBatch,
  computeBatch,
  applyBatch,
  endEpoch,
  trainingShard,
  meanLoss,
  accuracy,
  validate,
} from "./run";
export { writeFile } from "./save";
export {
  startVectors,
  readVectors,
  finishVectors,
  vectorsDefect,
  vectorsNumbers,
  vectorsLine,
  vectorsDimensions,
  vectorsDeclared,
  vectorsFound,
  vectorsAdded,
  vectorsRepeated,
  vectorsRepeatedLine,
} from "./vectors";
export { fileBytes, filePtr } from "./write";

/** The contract that this module was built for; the host compares it with its own. */
export function abiVersion(): i32 {
  return ABI_VERSION;
}
