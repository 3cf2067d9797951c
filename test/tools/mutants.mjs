// The mutants of a file of host/: what can be changed in it, one thing at a time. Wording, the layout of texts and
// pictures, and times to wait are left alone.
import { readFileSync } from "node:fs";
import ts from "typescript";

const SWAPS = new Map([["??", "&&"]]);
for (const pair of ["< <=", "> >=", "=== !==", "&& ||", "+ -", "* /", "+= -=", "| &", "some every", "min max"]) {
  const [a, b] = pair.split(" ");
  SWAPS.set(a, b).set(b, a);
}
/** Calls that give what they are called on, or a part of it. */
const PARTS = /^(filter|sort|toSorted|slice|subarray|trim|trimEnd|toLowerCase|toReversed)$/;
/** Calls whose arguments are wording. */
const WORDING = /(\blog\.\w+|\bconsole\.\w+|Error|\b(note|warn|refuse|fail|addHelpText|description|option|argument))$/;
const TIMES = /_MS$|Ms$|_SECONDS$|TIMEOUT|DELAY|PATIENCE/;

/** `line` and `change` name a mutant for people, and in equivalent-mutants.json; `from` and `to` say where `replacement` goes. */
export function mutantsOf(root, path) {
  const source = readFileSync(`${root}/${path}`, "utf8");
  const file = ts.createSourceFile(path, source, ts.ScriptTarget.ESNext, true);
  const found = [];
  const seen = new Map();

  const text = (node) => node.getText(file);
  function add(from, to, replacement, what) {
    const line = source.slice(source.lastIndexOf("\n", from) + 1, source.indexOf("\n", from)).trim();
    const flat = what.replace(/\s+/g, " ");
    const nth = (seen.get(line + flat) ?? 0) + 1;
    seen.set(line + flat, nth);
    const number = source.slice(0, from).split("\n").length;
    found.push({ file: path, line, change: nth > 1 ? `${flat} (${nth})` : flat, number, from, to, replacement });
  }
  function replace(node, replacement, whole = node) {
    const flat = text(whole).replace(/\s+/g, " ");
    const shown = flat.length > 80 ? `${flat.slice(0, 79)}…` : flat;
    add(node.getStart(file), node.end, replacement, `${shown} → ${replacement}`);
  }
  const isString = (node) => ts.isStringLiteralLike(node) || ts.isTemplateExpression(node);

  function visit(node) {
    if (ts.isTypeNode(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) return;
    if (ts.isImportDeclaration(node) || ts.isThrowStatement(node)) return;
    if (ts.isVariableDeclaration(node) && TIMES.test(text(node.name))) return;
    // Other systems are not here to be tested on.
    const condition = ts.isIfStatement(node) ? node.expression : ts.isConditionalExpression(node) && node.condition;
    if (condition && text(condition).includes("process.platform")) return;
    if ((ts.isCallExpression(node) || ts.isNewExpression(node)) && WORDING.test(text(node.expression))) return;

    // Numbers in a text that is put together place things in it.
    const isLayout =
      (ts.isNumericLiteral(node) || ts.isBinaryExpression(node)) && ts.findAncestor(node, ts.isTemplateSpan);
    if (isLayout) return;
    if (ts.isBinaryExpression(node)) {
      const swap = SWAPS.get(text(node.operatorToken));
      const joins = swap === "-" && (isString(node.left) || isString(node.right));
      if (swap && !joins) replace(node.operatorToken, swap, node);
    } else if (ts.isPrefixUnaryExpression(node) && node.operator === ts.SyntaxKind.ExclamationToken)
      replace(node, text(node.operand));
    else if (node.kind === ts.SyntaxKind.TrueKeyword) replace(node, "false");
    else if (node.kind === ts.SyntaxKind.FalseKeyword) replace(node, "true");
    else if (ts.isNumericLiteral(node)) replace(node, String(Number(node.text) + 1));
    else if (ts.isIfStatement(node)) for (const value of ["true", "false"]) replace(node.expression, value);
    else if (ts.isConditionalExpression(node)) for (const value of ["true", "false"]) replace(node.condition, value);
    else if (ts.isWhileStatement(node)) replace(node.expression, "false");
    else if (ts.isExpressionStatement(node)) {
      const call = ts.isAwaitExpression(node.expression) ? node.expression.expression : node.expression;
      const isWording = ts.isCallExpression(call) && /^super$|^this\.refuse$/.test(text(call.expression));
      if (!isWording && !(ts.isCallExpression(call) && WORDING.test(text(call.expression)))) replace(node, ";");
    } else if (
      ts.isPropertyAccessExpression(node) &&
      node.parent.expression === node &&
      ts.isCallExpression(node.parent)
    ) {
      const name = node.name.text;
      if (SWAPS.has(name)) replace(node.name, SWAPS.get(name), node.parent);
      else if (PARTS.test(name)) add(node.expression.end, node.parent.end, "", `.${name}(…) → nothing`);
    }
    ts.forEachChild(node, visit);
  }
  visit(file);
  return found;
}
