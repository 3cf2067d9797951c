// The host names of this service over HTTP. A web page of another site can reach the service through
// its visitor's browser, in two ways: under a name of its own that it points here (DNS rebinding), so
// that the browser takes the answers for the page's own; or directly, and then the browser says where
// the page is from. A page can neither choose the Host of its requests nor hide its origin in a POST.
// Pages of the configured origins may use it directly (CORS).
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import { hostname } from "node:os";

export class HttpHosts {
  private readonly configured: ReadonlySet<string>;
  private readonly names: ReadonlySet<string>;
  private readonly origins: ReadonlySet<string>;

  /** `listening`: the address or name that the server listens on. `configured`: further names, such as a proxy's. `origins`: of pages that may use this service. */
  constructor(listening: string, configured: readonly string[], origins: readonly string[] = []) {
    this.origins = new Set(origins);
    const own = hostname().toLowerCase();
    const [first] = own.split(".");
    this.configured = new Set(configured.map((name) => name.toLowerCase()));
    this.names = new Set(["localhost", own, first!, `${first}.local`, listening.toLowerCase(), ...this.configured]);
  }

  /** Whether the authority (`HOST[:PORT]`) of a request names this service. Any IP address does, since no page can redirect one. */
  isOwn(authority: string): boolean {
    const host = hostOf(authority);
    return host !== undefined && (isIP(host) !== 0 || this.names.has(host));
  }

  /** The origin of the page that asks, if it is one that may. */
  allowed({ origin = "" }: IncomingHttpHeaders): string | undefined {
    return this.origins.has(origin) ? origin : undefined;
  }

  /** Whether a browser says that the request is from a page of another origin. Programs do not send these headers. */
  isForeign({ host, origin, "sec-fetch-site": site = "none" }: IncomingHttpHeaders): boolean {
    if (site !== "none" && site !== "same-origin") return true;
    if (origin === undefined) return false;
    const authority = /^https?:\/\/([^/]+)$/i.exec(origin)?.[1]?.toLowerCase();
    // Behind a proxy, the Host may differ from the page's.
    return (
      authority === undefined || (authority !== host?.toLowerCase() && !this.configured.has(hostOf(authority) ?? ""))
    );
  }
}

/** Without the port, brackets and a final dot. */
function hostOf(authority: string): string | undefined {
  const [, address, name] = /^(?:\[([^\]]*)\]|([^:]*?)\.?)(?::\d*)?$/.exec(authority) ?? [];
  return (address ?? name)?.toLowerCase();
}
