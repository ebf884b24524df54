// SPDX-License-Identifier: Apache-2.0
/** The project's own rules for oxlint: floors, names, and bits of addresses. */
import { relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { importProblem } from './floors.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The parts of an ESTree node that the rules look at.
 * @typedef {{ type: string, parent?: Node, value?: unknown, bigint?: string, name?: string, operator?: string,
 *   left?: Node, right?: Node, argument?: Node, property?: Node, source?: Node | null, id?: Node | null,
 *   expression?: Node, object?: Node, callee?: Node, arguments?: Node[], computed?: boolean, init?: Node | null,
 *   typeAnnotation?: Node | null }} Node
 * @typedef {{ set: Map<string, { defs: { node: Node, name: Node }[] }>, upper: Scope | null }} Scope
 * @typedef {{ filename: string, sourceCode: { getScope(node: Node): Scope },
 *   report(problem: { node: Node, message: string }): void }} Context
 */

/** @param {Context} context */
const fileOf = (context) => relative(root, context.filename).split(sep).join('/');

/** A file imports only from its own folder and from the floors above it. */
const floors = {
  /** @param {Context} context */
  create(context) {
    const check = (/** @type {Node} */ node) => {
      const specifier = node.source?.value;
      if (typeof specifier !== 'string') return;
      const message = importProblem(fileOf(context), specifier);
      if (message !== undefined) context.report({ node, message });
    };
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      ImportExpression: check,
      TSImportType: check,
    };
  },
};

/** Names that hold a frame number or an address as a number. Lanes (`...Lo`, `...Hi`) and widths are u32 by design. */
const wide = /^_?(pfn|iova|address|addr|vaddr|paddr|gpa|va|oa)s?$|(Pfn|Iova|Address|Addr|Gpa)s?$/;

/** @param {Node | undefined} node @returns {string | undefined} */
function nameOf(node) {
  if (node?.type === 'Identifier') return node.name;
  if (node?.type === 'MemberExpression' && !node.computed) return nameOf(node.property);
  if (node?.type === 'PrivateIdentifier') return node.name;
  if (node?.type === 'TSAsExpression' || node?.type === 'TSNonNullExpression')
    return nameOf(node.expression);
  return undefined;
}

/** The declaration that a name refers to. @param {Context} context @param {Node} node */
function declarationOf(context, node) {
  for (
    let scope = /** @type {Scope | null} */ (context.sourceCode.getScope(node));
    scope;
    scope = scope.upper
  ) {
    const variable = scope.set.get(node.name ?? '');
    if (variable) return variable.defs[0];
  }
  return undefined;
}

/**
 * True where the expression is visibly a bigint: by its literals, or by how its variables are declared in the file.
 * @param {Context} context
 * @param {Node | null | undefined} node
 * @returns {boolean}
 */
function isBigint(context, node) {
  switch (node?.type) {
    case 'Literal':
      return node.bigint !== undefined && node.bigint !== null;
    case 'BinaryExpression':
      return isBigint(context, node.left) || isBigint(context, node.right);
    case 'UnaryExpression':
      return isBigint(context, node.argument);
    case 'CallExpression':
      return nameOf(node.callee) === 'BigInt';
    case 'Identifier': {
      const declared = declarationOf(context, node);
      if (declared?.name.typeAnnotation)
        return declared.name.typeAnnotation.typeAnnotation?.type === 'TSBigIntKeyword';
      return declared?.node.type === 'VariableDeclarator' && isBigint(context, declared.node.init);
    }
    default:
      return false;
  }
}

/**
 * A frame number goes up to 2^53-1 and an address further, and `>>`, `<<`, `>>>`, `&`, `|`, `^` keep 32 bits of a
 * number without a word. Shift and mask by arithmetic (`Math.floor(pfn / 512)`, `pfn % 512`), or split into lanes.
 */
const frameNumberBits = {
  /** @param {Context} context */
  create(context) {
    const operators = new Set(['>>', '<<', '>>>', '&', '|', '^']);
    const check = (/** @type {Node} */ node, /** @type {string} */ operator) => {
      if (!operators.has(operator)) return;
      if (isBigint(context, node.left) || isBigint(context, node.right)) return;
      const shift = operator === '>>' || operator === '<<' || operator === '>>>';
      for (const side of shift ? [node.left] : [node.left, node.right]) {
        const name = nameOf(side);
        if (name !== undefined && wide.test(name))
          context.report({
            node,
            message: `'${operator}' keeps 32 bits, and ${name} has more: use arithmetic, or (lo, hi) lanes of base/u64.ts`,
          });
      }
    };
    return {
      BinaryExpression: (/** @type {Node} */ node) => check(node, node.operator ?? ''),
      AssignmentExpression: (/** @type {Node} */ node) =>
        check(node, (node.operator ?? '').slice(0, -1)),
    };
  },
};

/** The kernel's spelling stays in src/abi/; everything else is camelCase. */
const names = {
  /** @param {Context} context */
  create(context) {
    const check = (/** @type {Node} */ node) => {
      const name = node.id?.type === 'Identifier' ? node.id.name : undefined;
      if (name !== undefined && /[a-z0-9]_[a-z0-9]/.test(name))
        context.report({
          node,
          message: `${name}: names outside src/abi/ are written in camelCase`,
        });
    };
    return {
      VariableDeclarator: check,
      FunctionDeclaration: check,
      ClassDeclaration: check,
      TSInterfaceDeclaration: check,
      TSTypeAliasDeclaration: check,
    };
  },
};

export default {
  meta: { name: 'iommulator' },
  rules: { floors, 'frame-number-bits': frameNumberBits, names },
};
