// SPDX-License-Identifier: Apache-2.0
/**
 * Sequences as scripts that test/golden/player/exec.c plays on a real kernel, and the player beside it in the engine: what one process
 * can do by calls. The model decides which calls make sense, and which ids and descriptors they have.
 */
import { apply } from './apply.ts';
import type { Step } from './commands.ts';
import { Generator } from './generate.ts';
import { PAGE } from './memory.ts';
import { resolve } from './resolve.ts';
import { EventQueue } from './events.ts';
import { WINDOW, World } from './world.ts';

const FIXED = 1;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** Where the model's memory is among the buffers of exec.c: in its huge pages, which are contiguous on every machine. */
function place(va: bigint): string | undefined {
  const offset = va - BigInt(WINDOW.first * PAGE);
  return offset >= 0n && offset < 1n << 20n ? `HG+${hex(offset)}` : undefined;
}

class Exporter {
  private readonly world: World;
  private readonly lines: string[] = [];
  /** The line that opened a descriptor, by its number in the model. */
  private readonly opened = new Map<number, number>();
  private readonly maps: number[] = [];

  constructor(world: World) {
    this.world = world;
  }

  get text(): string {
    return `${this.lines.join('\n')}\n`;
  }

  /** Writes a resolved step, and makes it in the model; nothing where a script can not say it. */
  step(step: Step): void {
    if (('by' in step && step.by !== 0) || step.forked) return;
    const line = this.line(step);
    if (line === undefined) return;
    const at =
      this.lines.push(step.readOnly && !line.startsWith('v_') ? `${line} ptr=ro` : line) - 1;
    const { out } = apply(this.world, step);
    if (typeof out['fd'] === 'number') this.opened.set(out['fd'], at);
    if (step.op === 'shared_map' && 'word' in out) this.maps.push(at);
  }

  private fd(fd: number): string {
    const line = this.opened.get(fd);
    return line === undefined ? '-1' : `$${line}.fd`;
  }

  private line(step: Step): string | undefined {
    switch (step.op) {
      case 'ioas_alloc':
        return 'ioas_alloc';
      case 'destroy':
        return `destroy id=${step.id}`;
      case 'map':
      case 'vfio_map': {
        const va = place(step.va);
        if (va === undefined) return undefined;
        const { length, iova } = step;
        const rest = `va=${va} len=${hex(length)} iova=${hex(iova)}`;
        if (step.op === 'vfio_map') return `v_map argsz=${step.argsz} flags=${step.flags} ${rest}`;
        // Where others are put depends on the address.
        return step.flags & FIXED
          ? `ioas_map ioas=${step.ioas} flags=${step.flags} ${rest}`
          : undefined;
      }
      case 'unmap':
        return `ioas_unmap ioas=${step.ioas} iova=${hex(step.iova)} len=${hex(step.length)}`;
      case 'copy': {
        if (!(step.flags & FIXED)) return undefined;
        const { source, ioas, flags, length, from, iova } = step;
        const ends = `siova=${hex(from)} diova=${hex(iova)} len=${hex(length)}`;
        return `ioas_copy src=${source} dst=${ioas} flags=${flags} ${ends}`;
      }
      case 'allow': {
        const ranges = step.ranges.map(([start, last]) => `${hex(start)}:${hex(last)}`).join(',');
        return `ioas_allow ioas=${step.ioas} n=${step.ranges.length}${ranges ? ` r=${ranges}` : ''}`;
      }
      case 'ranges':
        return `ioas_ranges ioas=${step.ioas} n=${Math.min(step.room, 16)}`;
      case 'huge_pages': {
        const op = step.value === undefined ? 1 : 0;
        return `option opt=1 op=${op} obj=${step.ioas} val=${step.value ?? 0n}`;
      }
      case 'mock':
        return `t_mock pt=${step.pt} dflags=${step.flags}`;
      case 'mock_replace':
        return `t_replace stdev=${step.mock} pt=${step.pt}`;
      case 'pasid_attach':
      case 'pasid_replace':
        return `t_${step.op} stdev=${step.mock} pasid=${step.pasid} pt=${step.pt}`;
      case 'pasid_detach':
        return `t_pasid_detach stdev=${step.mock} pasid=${step.pasid}`;
      case 'pasid_check':
        return `t_pasid_check stdev=${step.mock} pasid=${step.pasid} hwpt=${step.pt}`;
      case 'hwpt_alloc': {
        const data = step.table === undefined ? '' : ` dtype=0xdead iotlb=0 pgtbl=${step.table}`;
        return `hwpt_alloc dev=${step.device} pt=${step.pt} flags=${step.flags} fault=${step.fault}${data}`;
      }
      case 'nested_alloc': {
        const { device, parent, flags, fault, length, value } = step;
        const data = length > 0 ? ` dtype=0xdead dlen=${length} iotlb=${value}` : '';
        return `hwpt_alloc dev=${device} pt=${parent} flags=${flags} fault=${fault}${data}`;
      }
      case 'add_reserved':
        return `t_reserved ioas=${step.ioas} start=${hex(step.start)} len=${hex(step.length)}`;
      case 'check_iotlb':
        return `t_check_iotlb hwpt=${step.hwpt} idx=${step.index} val=${step.value}`;
      case 'check_cache':
        return `t_check_cache dev=${step.device} idx=${step.index} val=${step.value}`;
      case 'invalidate': {
        const entries = step.entries.map(([flags, index]) => `${flags}:${index}`).join(',');
        return `invalidate hwpt=${step.hwpt}${typeOf(step)}${entries ? ` e=${entries}` : ''}`;
      }
      case 'invalidate_devices': {
        const entries = step.entries.map((entry) => entry.join(':')).join(',');
        const length = ` elen=${step.entryBytes}`;
        return `invalidate hwpt=${step.viommu}${typeOf(step)}${length}${entries ? ` e=${entries}` : ''}`;
      }
      default:
        return this.queueLine(step);
    }
  }

  private queueLine(step: Step): string | undefined {
    switch (step.op) {
      case 'fault_alloc':
        return `fault_alloc flags=${step.flags}`;
      case 'trigger_iopf': {
        const { device, pasid, grpid, perm, addr } = step;
        return `t_iopf dev=${device} pasid=${pasid} grp=${grpid} perm=${hex(perm)} addr=${hex(addr)}`;
      }
      case 'trigger_vevent':
        return `t_vevent dev=${step.device}`;
      case 'queue_read': {
        const queue = this.world.processes[0].fds.get(step.fd);
        const op = queue instanceof EventQueue ? 'vevent_read' : 'fault_read';
        const nowhere = step.room === 0 ? ' bptr=bad' : '';
        if (!this.opened.has(step.fd) || (step.room < 1000 && !nowhere)) return undefined;
        return `${op} fd=${this.fd(step.fd)} bytes=${step.bytes}${nowhere}`;
      }
      case 'queue_write': {
        const queue = this.world.processes[0].fds.get(step.fd);
        if (!this.opened.has(step.fd) || step.room < 1000) return undefined;
        if (queue instanceof EventQueue) return `vevent_write fd=${this.fd(step.fd)}`;
        const answers = step.answers.map((answer) => answer.join(':')).join(',');
        return `fault_write fd=${this.fd(step.fd)} bytes=${step.bytes}${answers ? ` r=${answers}` : ''}`;
      }
      case 'queue_poll':
        return this.opened.has(step.fd) ? `poll fd=${this.fd(step.fd)}` : undefined;
      case 'close':
        return this.opened.has(step.fd) ? `close fd=${this.fd(step.fd)}` : undefined;
      case 'viommu_alloc': {
        const data = step.length > 0 ? ` dlen=${step.length} in=${step.word}` : '';
        return `viommu_alloc type=${hex(step.type)} dev=${step.device} hwpt=${step.hwpt}${data}`;
      }
      case 'vdevice_alloc':
        return `vdevice_alloc viommu=${step.viommu} dev=${step.device} virt=${hex(step.virtualId)}`;
      case 'veventq_alloc':
        return `veventq_alloc viommu=${step.viommu} type=${hex(step.type)} depth=${step.depth}`;
      case 'hw_queue_alloc': {
        const range = `iova=${hex(step.iova)} len=${hex(step.length)}`;
        return `hw_queue_alloc viommu=${step.viommu} type=${hex(step.type)} index=${step.index} ${range}`;
      }
      case 'shared_map': {
        const access = `shared=${step.shared ? 1 : 0} prot=${step.executable ? 7 : 3}`;
        return `mmap off=${hex(step.offset)} len=${hex(step.pages * PAGE)} ${access}`;
      }
      case 'shared_unmap': {
        const [at] = this.maps.splice(step.map % Math.max(this.maps.length, 1), 1);
        return at === undefined ? undefined : `munmap addr=$${at}.addr len=$${at}.len`;
      }
      default:
        return this.otherLine(step);
    }
  }

  private otherLine(step: Step): string | undefined {
    switch (step.op) {
      case 'dirty_track':
        return `set_dirty hwpt=${step.hwpt} flags=${step.flags}`;
      case 'dirty_mark': {
        const bits = step.isNull ? 'bptr=null' : `mode=2 bit=${step.bits[0] ?? 0}`;
        return `t_dirty hwpt=${step.hwpt} ${rangeOf(step)} ${bits}`;
      }
      case 'dirty_read': {
        const bytes = step.pageSize > 0n ? step.length / step.pageSize / 8n : 0n;
        // A stretch that begins with the last item of an entry hangs Linux.
        const begins = this.world.of('HWPT_PAGING').find(({ id }) => id === step.hwpt)?.space.areas;
        const isSafe =
          begins?.every(({ start, last }) => step.iova <= start || step.iova > last) ?? true;
        if (bytes > 50_000n || !isSafe) return undefined;
        return `get_dirty hwpt=${step.hwpt} flags=${step.flags} ${rangeOf(step)}`;
      }
      case 'vfio_ioas':
        return `vfio_ioas op=${step.action} ioas=${step.ioas}`;
      case 'vfio_api':
        return 'v_api';
      case 'vfio_extension':
        return `v_check ext=${step.extension}`;
      case 'vfio_set':
        return `v_set type=${step.type}`;
      case 'vfio_info':
        return `v_info argsz=${step.argsz}`;
      case 'vfio_unmap': {
        const range = `iova=${hex(step.iova)} len=${hex(step.length)}`;
        return `v_unmap argsz=${step.argsz} flags=${step.flags} ${range}`;
      }
      case 'access_create':
        return `t_access_create ioas=${step.ioas} flags=${step.flags}`;
      case 'access_pin': {
        if (!this.opened.has(step.fd) || step.va !== 0n) return undefined;
        const range = `iova=${hex(step.iova)} len=${hex(step.length)}`;
        return `t_access_pages acc=${this.fd(step.fd)} flags=${step.flags} ${range}`;
      }
      case 'access_unpin':
        if (!this.opened.has(step.fd)) return undefined;
        return `t_access_unpin acc=${this.fd(step.fd)} item=${step.item}`;
      case 'access_replace':
        if (!this.opened.has(step.fd)) return undefined;
        return `t_access_replace acc=${this.fd(step.fd)} ioas=${step.ioas}`;
      default:
        return undefined;
    }
  }
}

const typeOf = ({ otherType }: { otherType: boolean }): string => (otherType ? ' dtype=0' : '');

const rangeOf = (step: { iova: bigint; length: bigint; pageSize: bigint }): string =>
  `iova=${hex(step.iova)} len=${hex(step.length)} pgsz=${hex(step.pageSize)}`;

/** A sequence of about `length` calls; the process has no limit of locked memory. */
export function scriptOf(seed: number, length: number): string {
  const world = new World({ seed, memlock: [Infinity, Infinity], ipcLock: true });
  const generator = new Generator(world, seed);
  const exporter = new Exporter(world);
  for (let made = 0; made < length; made++) {
    const step = resolve(world, generator.next());
    exporter.step(step);
  }
  return exporter.text;
}
