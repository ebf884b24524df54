// SPDX-License-Identifier: Apache-2.0
/** Steps of accesses, and of what clients do without iommufd being asked. */
import {
  accessAt,
  checkRequest,
  closeAccess,
  copy,
  creating,
  pinning,
  replaceIoas,
} from './accesses.ts';
import type { By, Step } from './commands.ts';
import { EventQueue } from './events.ts';
import { FaultQueue } from './faults.ts';
import { changeProcess, checkMap, checkRefs, dropItem } from './maps.ts';
import { PAGE, refuse } from './memory.ts';
import { Access, type Open } from './objects.ts';
import type { Outcome } from './outcome.ts';
import type { World } from './world.ts';

export type ClientStep = Extract<
  Step,
  {
    op:
      | `access_${'create' | 'pin' | 'unpin' | 'rw' | 'replace'}`
      | `check_${'map' | 'refs'}`
      | `dmabuf_${'get' | 'revoke'}`
      | 'memory_limit'
      | 'change_process'
      | 'mmap'
      | 'munmap'
      | 'mprotect'
      | 'end'
      | 'close';
  }
>;

export function performClient(
  world: World,
  step: ClientStep,
  respond: () => void,
): Outcome['out'] | void {
  switch (step.op) {
    case 'access_create': {
      const { access, commit } = creating(world, step.ioas, step.flags);
      respond();
      commit();
      return { fd: world.install(step.by, access) };
    }
    case 'access_pin': {
      checkRequest(step.length, step.flags, 1);
      const access = accessAt(world, step.by, step.fd);
      if (!access.pins) refuse('EOPNOTSUPP');
      const { id, commit } = pinning(world, access, step);
      if (step.readOnly) {
        access.nextItem++; // the number is not used again
        refuse('EFAULT');
      }
      commit();
      return { item: id };
    }
    case 'access_unpin': {
      const access = accessAt(world, step.by, step.fd);
      dropItem(access, access.items.find(({ id }) => id === step.item) ?? refuse('ENOENT'));
      world.changes++;
      return;
    }
    case 'access_rw': {
      checkRequest(step.length, step.flags, 1 | 4);
      const access = accessAt(world, step.by, step.fd);
      const data = new Uint8Array(Number(step.length)).fill(step.flags & 1 ? step.fill : 0);
      copy(world, access, step, data);
      return step.flags & 1 ? {} : { data };
    }
    case 'access_replace':
      return replaceIoas(world, accessAt(world, step.by, step.fd), step.ioas);
    case 'close':
      return close(world, step.by, step.fd);
    case 'check_map':
      return checkMap(world, step.hwpt, step);
    case 'check_refs':
      return checkRefs(world, step);
    case 'dmabuf_get': {
      const count = Math.ceil(step.length / PAGE);
      if (count === 0 || count > 512) refuse('EINVAL');
      return {
        fd: world.install(step.by, {
          kind: 'dmabuf',
          pages: world.maker.make(count),
          revoked: false,
        }),
      };
    }
    case 'dmabuf_revoke': {
      const open = world.processes[step.by].fds.get(step.fd) ?? refuse('EBADF');
      if (open instanceof Access || open.kind !== 'dmabuf') return refuse('EINVAL');
      return world.revoke(open, step.revoked !== 0);
    }
    case 'memory_limit':
      return step.limit < 12 ? refuse('EINVAL') : undefined;
    case 'change_process':
      return changeProcess(world, step.by);
    case 'mmap': {
      const process = world.processes[step.by];
      process.mm.unmap(step.page, step.pages);
      const { offset, writable } = step;
      const file = step.file === undefined ? undefined : world.file(step.file);
      world.mapMemory(process, step.page, step.pages, {
        offset,
        writable,
        ...(file ? { file } : {}),
      });
      world.changes++;
      return;
    }
    case 'munmap':
      world.changes++;
      return world.processes[step.by].mm.unmap(step.page, step.pages);
    case 'mprotect':
      return world.processes[step.by].mm.protect(
        step.page,
        step.pages,
        step.readable,
        step.writable,
      );
    case 'end':
      return end(world, step.killed);
  }
}

const CLOSABLE: readonly string[] = ['ACCESS', 'FAULT', 'VEVENTQ', 'dmabuf'];

function closeOpen(world: World, open: Open | undefined): void {
  if (open instanceof Access) closeAccess(world, open);
  if (open instanceof FaultQueue || open instanceof EventQueue) open.isOpen = false;
}

function close(world: World, by: By, fd: number): void {
  const { fds } = world.processes[by];
  const open = fds.get(fd);
  if (!open || !CLOSABLE.includes(open.kind)) refuse('SKIP');
  fds.delete(fd);
  closeOpen(world, open);
}

/** A process that ends in good order closes its files first, one that is killed loses its memory first. */
function end(world: World, killed: boolean): void {
  const { fds, mm } = world.processes[1];
  world.changes++;
  if (killed) mm.end(true);
  for (const open of fds.values()) closeOpen(world, open);
  for (const each of world.maps.filter((map) => map.by === 1)) {
    world.maps.splice(world.maps.indexOf(each), 1);
    each.owner.maps--;
  }
  if (!killed) mm.end(false);
  world.processes[1] = world.newProcess(1);
}
