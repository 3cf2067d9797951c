// What HTTP answers when it cannot do what is asked: a status, and a code with a message, as over MQTT.
import { statusOf } from "../answer/messages.ts";
import type { RequestId } from "../answer/messages.ts";
import { requestErrorOf } from "../answer/predictor.ts";
import type { Service } from "../service.ts";
import type { HttpUser } from "./login.ts";

const codeOf: Record<number, string> = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  405: "method_not_allowed",
  408: "too_slow",
  413: "too_large",
  415: "unsupported_media_type",
  421: "misdirected",
};

/** An error that exists only in HTTP, such as a wrong path or method. */
export class HttpError extends Error {
  readonly status: number;
  readonly headers: Record<string, string>;
  constructor(status: number, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

export interface Failure {
  status: number;
  code: string;
  message: string;
  /** Of the request, if it has one and could be read. */
  id?: RequestId | undefined;
  headers: Record<string, string>;
}

/** The answer to an error, which is counted. */
export function failureOf(service: Service, error: unknown, user: HttpUser | undefined): Failure {
  if (error instanceof HttpError)
    return { status: error.status, code: codeOf[error.status]!, message: error.message, headers: error.headers };
  const { code, message, retrySeconds, id } = requestErrorOf(error);
  service.metrics.errors.inc({ code });
  // The message would list the models.
  const isHidden = code === "unknown_model" && user?.mayRead("info") === false;
  return {
    status: statusOf[code],
    code,
    message: isHidden ? "there is no such model here" : message,
    id,
    headers: retrySeconds === undefined ? {} : { "Retry-After": String(retrySeconds) },
  };
}
