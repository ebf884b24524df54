// SPDX-License-Identifier: Apache-2.0
/**
 * Files that clients find beside the host's: a tree as data, and how a path goes through it. Nothing here touches the host's
 * files.
 */

/** One place in the tree. */
export type TreeNode =
  | {
      readonly kind: 'file';
      readonly mode: number;
      /** Asked at each open; only at the first of a file that keeps what is written to it. */
      readonly content: () => string | Uint8Array;
      readonly keeps: boolean;
    }
  | { readonly kind: 'link'; readonly target: string }
  | {
      readonly kind: 'directory';
      /** The host's entries are there too; else it hides a directory of the host with that name. */
      readonly isShared: boolean;
    }
  /** A device node: what it is, is said by the `Device` with that path. */
  | { readonly kind: 'device' };

/** By absolute path, without a slash at the end. Every directory above a node is in it, except the root. */
export type FileTree = ReadonlyMap<string, TreeNode>;

/** Where a path leads. `isPlain`: without anything of ours alone on the way, so that Linux finds it by the same path. */
export type Place =
  | {
      readonly at: 'tree';
      readonly path: string;
      readonly node: TreeNode;
      readonly isPlain: boolean;
    }
  /** Out of the tree. */
  | { readonly at: 'host'; readonly path: string; readonly isPlain: boolean }
  | { readonly at: 'nowhere'; readonly errno: number; readonly parent: string | undefined };

const ENOENT = 2;
const ENOTDIR = 20;
const ELOOP = 40;
/** Symbolic links in one path, as Linux counts them. */
const MAX_LINKS = 40;

const SHARED = { kind: 'directory', isShared: true } as const;
const OWN = { kind: 'directory', isShared: false } as const;

/** Collects a tree. Directories above what is put are shared with the host unless they were made by `directory`. */
export class TreeBuilder {
  readonly tree = new Map<string, TreeNode>();

  /** A directory that has only what is put there. */
  directory(path: string): void {
    this.put(path, OWN);
  }

  file(path: string, content: string | (() => string | Uint8Array), mode = 0o444): void {
    const read = typeof content === 'string' ? () => content : content;
    this.put(path, { kind: 'file', mode, content: read, keeps: false });
  }

  /** A file that keeps what is written to it. */
  setting(path: string, initial: string): void {
    this.put(path, { kind: 'file', mode: 0o600, content: () => initial, keeps: true });
  }

  link(path: string, target: string): void {
    this.put(path, { kind: 'link', target });
  }

  device(path: string): void {
    this.put(path, { kind: 'device' });
  }

  private put(path: string, node: TreeNode): void {
    const slash = path.lastIndexOf('/');
    const parent = path.slice(0, slash);
    if (parent !== '' && !this.tree.has(parent)) this.put(parent, SHARED);
    this.tree.set(path, node);
  }
}

/**
 * Walks an absolute path. `base` and its parents are known to be directories; `follow`: a link at the end is followed. `isPlain` as far
 * as it is true already before the walk begins.
 */
export function walkTree(
  tree: FileTree,
  base: string,
  path: string,
  follow: boolean,
  isPlain = true,
): Place {
  const rest = path.split('/').toReversed();
  let at = path.startsWith('/') || base === '/' ? '' : base;
  let plain = isPlain;
  let links = 0;
  while (rest.length > 0) {
    const name = rest.pop() ?? '';
    if (name === '' || name === '.') continue;
    if (name === '..') {
      at = at.slice(0, Math.max(0, at.lastIndexOf('/')));
      continue;
    }
    const next = `${at}/${name}`;
    const node = tree.get(next);
    // A slash or a dot behind it asks for a directory, too.
    const hasMore = rest.length > 0;
    if (node === undefined) {
      const above = tree.get(at);
      if (above?.kind === 'directory' && !above.isShared) {
        return { at: 'nowhere', errno: ENOENT, parent: hasMore ? undefined : at };
      }
      const tail = rest.toReversed().join('/');
      return { at: 'host', path: tail === '' ? next : `${next}/${tail}`, isPlain: plain };
    }
    if (node.kind === 'directory') {
      plain &&= node.isShared;
      at = next;
      continue;
    }
    if (node.kind === 'link' && (hasMore || follow)) {
      links += 1;
      if (links > MAX_LINKS) return { at: 'nowhere', errno: ELOOP, parent: undefined };
      plain = false;
      if (node.target.startsWith('/')) at = '';
      rest.push(...node.target.split('/').toReversed());
      continue;
    }
    if (node.kind !== 'link' && hasMore) {
      return { at: 'nowhere', errno: ENOTDIR, parent: undefined };
    }
    return { at: 'tree', path: next, node, isPlain: false };
  }
  const node = tree.get(at);
  if (node !== undefined) return { at: 'tree', path: at, node, isPlain: plain };
  return { at: 'host', path: at === '' ? '/' : at, isPlain: plain };
}
