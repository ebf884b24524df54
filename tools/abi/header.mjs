// SPDX-License-Identifier: Apache-2.0
/**
 * Finds the names that a C header declares: structures with their fields, enumerators and constant macros. It knows
 * as much C as the UAPI headers use, and nothing about values: those come from a compiled program.
 */

/**
 * @typedef {{ path: string, flexible: boolean }} FieldName  a field as C writes it (`mock_domain.out_hwpt_id`)
 * @typedef {{ structs: Map<string, FieldName[]>, constants: string[] }} Names
 */

/**
 * The part of a preprocessed file that came from `header`, after the `# line "file"` markers of `gcc -E`.
 * @param {string} preprocessed
 * @param {string} header  how the marker's file name ends
 */
export function ownText(preprocessed, header) {
  let mine = false;
  const lines = [];
  for (const line of preprocessed.split('\n')) {
    const marker = /^# \d+ "([^"]*)"/.exec(line);
    if (marker) mine = marker[1]?.endsWith(header) ?? false;
    else if (mine) lines.push(line);
  }
  return lines.join('\n');
}

/**
 * @param {string} text  a header's own text, preprocessed
 * @returns {string[][]}  declarations as tokens, split at the semicolons outside braces
 */
function declarations(text) {
  const tokens = text.match(/[A-Za-z_]\w*|0x[0-9a-fA-F]+\w*|\d+\w*|'.'|<<|>>|[^\s\w]/g) ?? [];
  const out = [];
  let depth = 0;
  /** @type {string[]} */
  let current = [];
  for (const token of tokens) {
    if (token === '{') depth++;
    if (token === '}') depth--;
    if (token === ';' && depth === 0) {
      out.push(current);
      current = [];
    } else current.push(token);
  }
  return out;
}

/**
 * @param {string[]} body  the tokens between the braces of a struct or union
 * @param {string} prefix
 * @returns {FieldName[]}
 */
function fieldsOf(body, prefix) {
  const fields = [];
  for (const tokens of declarations([...body, ';'].join(' '))) {
    const open = tokens.indexOf('{');
    if (open < 0) {
      const bracket = tokens.indexOf('[');
      const name = tokens[(bracket < 0 ? tokens.length : bracket) - 1];
      if (name === undefined) continue;
      fields.push({ path: prefix + name, flexible: bracket >= 0 && tokens[bracket + 1] === ']' });
      continue;
    }
    const close = tokens.lastIndexOf('}');
    const member = tokens[close + 1];
    const inner = tokens.slice(open + 1, close);
    if (member === undefined) fields.push(...fieldsOf(inner, prefix));
    else {
      fields.push({ path: prefix + member, flexible: false });
      fields.push(...fieldsOf(inner, `${prefix}${member}.`));
    }
  }
  return fields;
}

/**
 * @param {string} preprocessed  output of `gcc -E` of a file that includes the header
 * @param {string} source  the header as it is written (for its macros)
 * @param {string} header  how its file name ends
 * @returns {Names}
 */
export function declaredNames(preprocessed, source, header) {
  const structs = new Map();
  /** @type {string[]} */
  const constants = [];
  for (const tokens of declarations(ownText(preprocessed, header))) {
    const open = tokens.indexOf('{');
    if (open < 0) continue;
    const body = tokens.slice(open + 1, tokens.lastIndexOf('}'));
    if (tokens[0] === 'struct' && tokens[1] !== undefined && open === 2)
      structs.set(tokens[1], fieldsOf(body, ''));
    if (tokens[0] === 'enum') {
      let depth = 0;
      let expectName = true;
      for (const token of body) {
        if (token === '(') depth++;
        if (token === ')') depth--;
        if (expectName && /^[A-Za-z_]/.test(token)) {
          constants.push(token);
          expectName = false;
        }
        if (token === ',' && depth === 0) expectName = true;
      }
    }
  }
  // A macro with a value and without arguments; include guards have no value.
  const plain = source.replace(/\/\*[\s\S]*?\*\//g, ' ').replace(/\\\n/g, ' ');
  for (const match of plain.matchAll(/^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+\S/gm))
    if (match[1] !== undefined && !constants.includes(match[1])) constants.push(match[1]);
  return { structs, constants };
}

/** 1 for a signed integer; 0 for everything else, structures and arrays included. */
const signedMacro =
  '#define SIGNED(x) _Generic((x), signed char: 1, short: 1, int: 1, long: 1, long long: 1, default: 0)';

/**
 * The C program that prints what a compiler makes of the names, as JSON: a field is [offset, size, 1 if signed].
 * @param {readonly string[]} includes
 * @param {Names} names
 */
export function probeProgram(includes, names) {
  const lines = includes.map((file) => `#include <${file}>`);
  lines.push('#include <stdio.h>', '#include <stddef.h>', signedMacro, '', 'int main(void)', '{');
  const print = (/** @type {string} */ format, /** @type {string[]} */ ...values) =>
    lines.push(`\tprintf(${JSON.stringify(format)}${values.map((v) => `, ${v}`).join('')});`);
  print('{"structs": {\n');
  let first = true;
  for (const [name, fields] of names.structs) {
    const type = `struct ${name}`;
    print(
      `${first ? '' : ',\n'}"${name}": {"size": %zu, "align": %zu, "fields": {`,
      `sizeof(${type})`,
      `_Alignof(${type})`,
    );
    first = false;
    fields.forEach((field, i) => {
      const member = `((${type} *)0)->${field.path}`;
      print(
        `${i ? ', ' : ''}"${field.path}": [%zu, %zu, %d]`,
        `offsetof(${type}, ${field.path})`,
        field.flexible ? '(size_t)0' : `sizeof(${member})`,
        field.flexible ? '0' : `SIGNED(${member})`,
      );
    });
    print('}}');
  }
  print('\n}, "constants": {\n');
  names.constants.forEach((name, i) =>
    print(`${i ? ',\n' : ''}"${name}": %lld`, `(long long)(${name})`),
  );
  print('\n}}\n');
  lines.push('\treturn 0;', '}', '');
  return lines.join('\n');
}
