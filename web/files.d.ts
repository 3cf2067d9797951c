/** The bundler puts the bytes of such a file in place of the import, each as a character. */
declare module "*.wasm" {
  const characters: string;
  export default characters;
}

/** The same with the text of a file. */
declare module "*.tsv" {
  const text: string;
  export default text;
}
