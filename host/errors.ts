// Errors that the user can correct: the message says what is wrong and what to do.
// Any other error that is thrown is a defect of edgelabel, and is shown with its stack.

export class UserError extends Error {
  override name = "UserError";
}
