// SPDX-License-Identifier: Apache-2.0
/**
 * What the shell gave us and Node changed before our first line ran. Node resets every signal disposition and the mask,
 * raises the soft limit of descriptors, opens closed 0-2 on /dev/null and sets FD_CLOEXEC on what it inherited. The
 * launcher (a shell script that starts Node) can look before Node does and say so in IOMMULATOR_INHERITED; without it
 * the facts are reconstructed as far as /proc allows.
 */
import { fstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { readSmall } from './proc_read.ts';
import { O_NONBLOCK } from './uapi.ts';

/** The variable that the launcher sets: `sigign=HEX;sigblk=HEX;nofile=N;fds=0,1,2,5`. It is not passed on. */
export const INHERITED_VARIABLE = 'IOMMULATOR_INHERITED';

export interface Inherited {
  /** Signals ignored and blocked, bit n-1 for signal n. */
  readonly ignored: bigint;
  readonly blocked: bigint;
  /** The soft RLIMIT_NOFILE; undefined leaves Node's. */
  readonly nofile: number | undefined;
  /** Open descriptors, with the file status flags they had. */
  readonly fds: readonly { readonly fd: number; readonly nonblock: boolean }[];
  /** `NAME=value` bytes, in order, without {@link INHERITED_VARIABLE}. */
  readonly environment: readonly Buffer[];
}

const SIGHUP_BIT = 1n;
/** Read when the module is: before anything touches process.stdout, which would change the flags. */
const nonblockAtStart = new Map([0, 1, 2].map((fd) => [fd, flagsOf(fd)]));

/** Reads what there is to know; to be called before descriptors are opened that are our own. */
export function readInherited(): Inherited {
  const environment = readEnvironment();
  const told = parse(process.env[INHERITED_VARIABLE] ?? '');
  const numbers = told.fds ?? guessFds();
  return {
    // Without a launcher: what the parent ignores is mostly its own business; only an ignored hang-up (nohup) is meant for children.
    ignored: told.ignored ?? statusBits(process.ppid, 'SigIgn') & SIGHUP_BIT,
    blocked: told.blocked ?? 0n,
    nofile: told.nofile ?? softNofile(process.ppid),
    fds: numbers.map((fd) => ({
      fd,
      nonblock: ((nonblockAtStart.get(fd) ?? flagsOf(fd) ?? 0) & O_NONBLOCK) !== 0,
    })),
    environment,
  };
}

interface Told {
  ignored?: bigint;
  blocked?: bigint;
  nofile?: number;
  fds?: number[];
}

function parse(text: string): Told {
  const told: Told = {};
  for (const item of text.split(';')) {
    const [key, value = ''] = item.split('=');
    const isHex = /^[0-9a-f]+$/i.test(value);
    if (key === 'sigign' && isHex) told.ignored = BigInt(`0x${value}`);
    if (key === 'sigblk' && isHex) told.blocked = BigInt(`0x${value}`);
    if (key === 'nofile' && /^\d+$/.test(value)) told.nofile = Number(value);
    if (key === 'fds' && /^[\d,]*$/.test(value)) {
      told.fds = value.split(',').filter(Boolean).map(Number);
    }
  }
  return told;
}

/** The bytes of the environment as exec gave them: a decoded process.env would change what is not UTF-8. */
function readEnvironment(): Buffer[] {
  const bytes = readFileSync('/proc/self/environ');
  const entries: Buffer[] = [];
  for (let start = 0; start < bytes.length;) {
    const nul = bytes.indexOf(0, start);
    const end = nul < 0 ? bytes.length : nul;
    const entry = bytes.subarray(start, end);
    if (!entry.toString('latin1').startsWith(`${INHERITED_VARIABLE}=`)) entries.push(entry);
    start = end + 1;
  }
  return entries;
}

/** Descriptors that were open before Node started, by what they are: Node's own are event objects and pipes to itself. */
function guessFds(): number[] {
  const targets = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    try {
      targets.set(fd, readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      // The descriptor of the listing itself.
    }
  }
  const firstEvent = Math.min(
    ...[...targets].filter(([, to]) => to === 'anon_inode:[eventpoll]').map(([fd]) => fd),
  );
  const mine = ([fd, to]: [number, string]): boolean => {
    if (fd <= 2) return false;
    if (to.startsWith('anon_inode:')) return true;
    if (to === '/dev/null') return fd > firstEvent && isReadOnly(fd);
    return (
      fd > firstEvent &&
      to.startsWith('pipe:') &&
      [...targets].filter(([other, same]) => same === to && other > firstEvent).length === 2
    );
  };
  return [...targets].filter((entry) => !mine(entry)).map(([fd]) => fd);
}

function isReadOnly(fd: number): boolean {
  return ((flagsOf(fd) ?? 0) & 3) === 0;
}

/** The status flags of a descriptor of ours, or undefined where it is closed. */
function flagsOf(fd: number): number | undefined {
  try {
    fstatSync(fd);
    const match = /^flags:\s*([0-7]+)/m.exec(readSmall(`/proc/self/fdinfo/${fd}`));
    return match?.[1] === undefined ? undefined : Number.parseInt(match[1], 8);
  } catch {
    return undefined;
  }
}

function softNofile(pid: number): number | undefined {
  try {
    const match = /^Max open files\s+(\d+)/m.exec(readSmall(`/proc/${pid}/limits`));
    return match?.[1] === undefined ? undefined : Number(match[1]);
  } catch {
    return undefined;
  }
}

function statusBits(pid: number, field: string): bigint {
  try {
    const match = new RegExp(`^${field}:\\s*([0-9a-f]+)`, 'm').exec(
      readSmall(`/proc/${pid}/status`),
    );
    return BigInt(`0x${match?.[1] ?? '0'}`);
  } catch {
    return 0n;
  }
}
