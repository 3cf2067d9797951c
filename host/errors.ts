// Errors that a person can mend: the message names what is wrong and what to do.
// Anything else that is thrown is a defect of ours and shows its stack.

export class UserError extends Error {
  override name = "UserError";
}
