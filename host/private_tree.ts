// SPDX-License-Identifier: Apache-2.0
/**
 * The tree as real files in a folder of our own, so that a client can hold descriptors of them: reads, seeks and listings are then
 * Linux's own work. Made when a client first needs it, and removed at the end of the run.
 */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path/posix';
import { type FileTree, type Place, walkTree } from './file_tree.ts';
import { AT_FDCWD } from './uapi.ts';

const PROC_LINK = /^\/proc\/(self|thread-self|\d+)(?:\/task\/(\d+))?\/(cwd|fd\/\d+)$/;

export class PrivateTree {
  private readonly tree: FileTree;
  /** Last components of what is in the tree: a relative path that ends in another one is not ours, unless a client holds a directory. */
  private readonly names = new Set<string>(['.', '..']);
  /** First components: `sys`, `dev`. */
  private readonly tops = new Set<string>();
  private folder_: string | undefined;
  private readonly filled = new Set<string>();
  /** Files whose content is now what clients write. */
  private readonly kept = new Set<string>();
  /** A client has had a descriptor of one of the directories, or can have inherited one. */
  private isHeld = false;

  constructor(tree: FileTree) {
    this.tree = tree;
    for (const path of tree.keys()) {
      this.names.add(path.slice(path.lastIndexOf('/') + 1));
      this.tops.add(path.split('/', 2)[1] ?? '');
    }
  }

  /** Where `path` of thread `tid` leads, relative to `dirfd`; undefined where the tree has no part in it. */
  find(tid: number, dirfd: number, path: string, follow: boolean): Place | undefined {
    if (path.startsWith('/')) {
      const top = /^\/+(?:\.\/+)*([^/]+)/.exec(path)?.[1] ?? '';
      if (!this.tops.has(top)) return undefined;
      return this.tell(walkTree(this.tree, '/', path, follow));
    }
    if (path === '' || !(this.isHeld || this.names.has(lastOf(path)))) return undefined;
    let base: string;
    try {
      base = readlinkSync(dirfd === AT_FDCWD ? `/proc/${tid}/cwd` : `/proc/${tid}/fd/${dirfd}`);
    } catch {
      return undefined;
    }
    const own = this.pathOf(base);
    if (own !== undefined) return this.tell(walkTree(this.tree, own, path, follow, false));
    if (!this.tops.has(base.split('/', 2)[1] ?? '') && base !== '/') return undefined;
    return this.tell(walkTree(this.tree, base, path, follow));
  }

  private tell(place: Place): Place | undefined {
    return place.at === 'host' && place.isPlain ? undefined : place;
  }

  /** What a link of /proc says that leads into our folder: the path that the client knows. */
  linkOfProc(tid: number, path: string): string | undefined {
    if (!this.isHeld || !path.startsWith('/proc/')) return undefined;
    const match = PROC_LINK.exec(path);
    if (match === null) return undefined;
    const who = match[2] ?? (/^\d/.test(match[1] ?? '') ? match[1] : String(tid));
    try {
      return this.pathOf(readlinkSync(`/proc/${who}/${match[3]}`));
    } catch {
      return undefined;
    }
  }

  /** The path that a client gave to what is at a place of our folder; undefined for other places. */
  pathOf(real: string): string | undefined {
    const folder = this.folder_;
    if (folder === undefined || !real.startsWith(folder)) return undefined;
    const rest = real.slice(folder.length);
    return rest === '' ? '/' : rest.startsWith('/') ? rest : undefined;
  }

  /** Whether the host shows this shared directory as we would, or better: listings of /dev need its real device nodes. */
  isHosts(path: string, forListing = false): boolean {
    const node = this.tree.get(path);
    if (node?.kind !== 'directory' || !node.isShared || !isDirectory(path)) return false;
    if (!forListing || path === '/dev' || path.startsWith('/dev/')) return true;
    for (const [child, { kind }] of this.tree) {
      if (child.slice(0, child.lastIndexOf('/')) !== path) continue;
      if (kind !== 'directory' || !isDirectory(child)) return false;
    }
    return true;
  }

  /** The real file behind a place of the tree, as it has to look now. */
  real(path: string): string {
    const folder = this.folder();
    const place = join(folder, path);
    const node = this.tree.get(path);
    if (node?.kind === 'file' && !this.kept.has(path)) write(place, node.content(), node.mode);
    if (node?.kind === 'file' && node.keeps) this.kept.add(path);
    return place;
  }

  /** The real directory for a listing, with the host's entries where it is shared. From now on clients hold it. */
  realDirectory(path: string): string {
    const place = this.real(path);
    const node = this.tree.get(path);
    this.isHeld = true;
    if (node?.kind === 'directory' && node.isShared && !this.filled.has(path)) {
      this.filled.add(path);
      this.fill(path, place);
    }
    return place;
  }

  /** Ends with the run. */
  close(): void {
    if (this.folder_ !== undefined) rmSync(this.folder_, { recursive: true, force: true });
    this.folder_ = undefined;
  }

  private folder(): string {
    if (this.folder_ !== undefined) return this.folder_;
    const folder = mkdtempSync(join(tmpdir(), 'iommulator-'));
    this.folder_ = folder;
    for (const [path, node] of this.tree) {
      const place = join(folder, path);
      if (node.kind === 'directory') mkdirSync(place, { mode: 0o755 });
      else if (node.kind === 'link') symlinkSync(node.target, place);
      else writeFileSync(place, '');
    }
    return folder;
  }

  /** Stand-ins for the host's entries: right in name and type, which is what a listing tells. Opening one leads to the host's. */
  private fill(path: string, place: string): void {
    let names: string[];
    try {
      names = readdirSync(path);
    } catch {
      return;
    }
    for (const name of names) {
      if (this.tree.has(`${path}/${name}`)) continue;
      const theirs = join(path, name);
      const ours = join(place, name);
      try {
        const stat = lstatSync(theirs);
        if (stat.isSymbolicLink()) symlinkSync(readlinkSync(theirs), ours);
        else if (stat.isDirectory()) mkdirSync(ours);
        else writeFileSync(ours, '');
      } catch {
        // Gone meanwhile.
      }
    }
  }
}

function write(place: string, content: string | Uint8Array, mode: number): void {
  // A file that nobody may write would refuse us too, if we are not root.
  chmodSync(place, 0o600);
  writeFileSync(place, content);
  chmodSync(place, mode);
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function lastOf(path: string): string {
  let end = path.length;
  while (end > 1 && path.charCodeAt(end - 1) === 47) end -= 1;
  return path.slice(path.lastIndexOf('/', end - 1) + 1, end);
}
