// Which names this service goes by over HTTP. A web page of another site can reach it with its
// visitor's browser: under a name of its own that it points here (DNS rebinding), after which the
// browser takes the answers for the page's own; or straight away, when the browser says where the
// page comes from. A page can neither choose the Host of its requests nor hide its origin in a POST.
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import { hostname } from "node:os";

export class HttpHosts {
  private readonly configured: ReadonlySet<string>;
  private readonly names: ReadonlySet<string>;

  /** `listening`: the address or name that the server listens on. `configured`: further names, such as that of a proxy in front. */
  constructor(listening: string, configured: readonly string[]) {
    const own = hostname().toLowerCase();
    const [first] = own.split(".");
    this.configured = new Set(configured.map((name) => name.toLowerCase()));
    this.names = new Set(["localhost", own, first!, `${first}.local`, listening.toLowerCase(), ...this.configured]);
  }

  /** Whether the authority (`HOST[:PORT]`) of a request names this service. No page can point an address elsewhere, so any address does. */
  isOwn(authority: string): boolean {
    const host = hostOf(authority);
    return host !== undefined && (isIP(host) !== 0 || this.names.has(host));
  }

  /** Whether a browser says that a page of another origin sends the request. Programs send none of these headers. */
  isForeign({ host, origin, "sec-fetch-site": site = "none" }: IncomingHttpHeaders): boolean {
    if (site !== "none" && site !== "same-origin") return true;
    if (origin === undefined) return false;
    const authority = /^https?:\/\/([^/]+)$/i.exec(origin)?.[1]?.toLowerCase();
    // Behind a proxy the Host may be another one than the page's.
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
