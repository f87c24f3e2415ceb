// Set formulas: node mathjax.cjs FOLDER < formulas.json, where FOLDER has MathJax 3.
// In: [{tex, display}, ...].  Out: {html: [...], errors: [...], css}.
const { readFileSync } = require("node:fs");
const formulas = JSON.parse(readFileSync(0, "utf8"));
const load = ["input/tex", "output/chtml", "adaptors/liteDOM", "a11y/assistive-mml"];
const chtml = { fontURL: ".", scale: 1.15 }; // as tall as the usual fonts of systems
const tex = { packages: { "[-]": ["noundefined"] } }; // an unknown command is an error
require(`${process.argv[2]}/node-main.js`)
  .init({ loader: { load }, chtml, tex, options: { enableAssistiveMml: true } })
  .then((MathJax) => {
    const { adaptor } = MathJax.startup;
    const set = formulas.map(({ tex, display }) => MathJax.tex2chtml(tex, { display }));
    const html = set.map((node) => adaptor.outerHTML(node));
    const errors = html.map((text) => /data-mjx-error="([^"]*)"/.exec(text)?.[1] ?? null);
    const css = adaptor.textContent(MathJax.chtmlStylesheet());
    process.stdout.write(JSON.stringify({ html, errors, css }));
  })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
