// Certificate authorities and certificates for tests, made by openssl in a folder.
import { execFileSync } from "node:child_process";

export class Certificates {
  private readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** NAME.pem and NAME.key of an authority. */
  authority(name: string): void {
    this.openssl(
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "2",
      "-subj",
      `/CN=${name}`,
      "-keyout",
      `${name}.key`,
      "-out",
      `${name}.pem`,
    );
  }

  /** NAME.pem and NAME.key, signed by the authority. */
  certificate(name: string, authority: string, host: string, days = 2): void {
    this.openssl(
      "req",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-subj",
      `/CN=${host}`,
      "-addext",
      `subjectAltName=DNS:${host}`,
      "-keyout",
      `${name}.key`,
      "-out",
      `${name}.csr`,
    );
    this.openssl(
      "x509",
      "-req",
      "-in",
      `${name}.csr`,
      "-CA",
      `${authority}.pem`,
      "-CAkey",
      `${authority}.key`,
      "-CAcreateserial",
      "-days",
      String(days),
      "-copy_extensions",
      "copy",
      "-out",
      `${name}.pem`,
    );
  }

  private openssl(...args: string[]): void {
    execFileSync("openssl", args, { cwd: this.folder, stdio: "pipe" });
  }
}
