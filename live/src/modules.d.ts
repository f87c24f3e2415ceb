// What build.mjs makes of files that are no TypeScript.

declare module "*.wat" {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}

declare module "*?source" {
  const text: string;
  export default text;
}
