// The service's own paths, asked by its page.

export class Refused extends Error {
  readonly status: number;
  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

/** The answer as JSON. Throws a Refused with the service's words. */
export async function ask<T>(path: string, body?: object): Promise<T> {
  const init =
    body === undefined
      ? {}
      : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await (await asked(path, init)).json()) as T;
}

export async function asked(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(path, init);
  // Not being ready is an answer, too.
  if (response.ok || path === "/readyz") return response;
  const { error } = (await response.json().catch(() => ({}))) as { error?: { message?: string } };
  throw new Refused(error?.message ?? `the service answers ${response.status}`, response.status);
}
