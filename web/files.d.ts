/** The bundler puts the bytes of such a file, in base64, in place of the import. */
declare module "*.wasm" {
  const base64: string;
  export default base64;
}

/** The same with the text of a file. */
declare module "*.tsv" {
  const text: string;
  export default text;
}
