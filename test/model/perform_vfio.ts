// SPDX-License-Identifier: Apache-2.0
/** Steps of VFIO's container in the engine. */
import * as vfio from '../../src/abi/vfio.ts';
import type { Step } from './commands.ts';
import { type Engine, uapi } from './engine.ts';
import { PAGE } from './memory.ts';
import { answer, type EngineOutcome } from './outcome.ts';
import type { VfioStep } from './vfio.ts';

export function performVfio(engine: Engine, step: VfioStep): EngineOutcome {
  const { readOnly = false } = step;
  switch (step.op) {
    case 'vfio_ioas': {
      const fields = { op: step.action, ioas_id: step.ioas };
      const { IOMMU_VFIO_IOAS, iommu_vfio_ioas } = uapi;
      const call = engine.ioctl(0, IOMMU_VFIO_IOAS, iommu_vfio_ioas, fields, readOnly);
      return answer(call, ({ ioas_id: ioas }) => ({ ioas }));
    }
    case 'vfio_api':
      return plain(engine, vfio.VFIO_GET_API_VERSION, 0);
    case 'vfio_extension':
      return plain(engine, vfio.VFIO_CHECK_EXTENSION, step.extension);
    case 'vfio_set':
      return plain(engine, vfio.VFIO_SET_IOMMU, step.type);
    case 'vfio_info': {
      const { args } = engine.clients[0];
      args.fill(0, 0, PAGE);
      const fields = { argsz: step.argsz };
      const { VFIO_IOMMU_GET_INFO, vfio_iommu_type1_info } = vfio;
      const call = engine.sized(0, VFIO_IOMMU_GET_INFO, vfio_iommu_type1_info, fields, readOnly);
      return answer(call, () => ({ info: args.slice(0, PAGE) }));
    }
    case 'vfio_map': {
      const { argsz, flags, va: vaddr, iova, length: size } = step;
      const fields = { argsz, flags, vaddr, iova, size };
      const { VFIO_IOMMU_MAP_DMA, vfio_iommu_type1_dma_map } = vfio;
      return answer(engine.sized(step.by, VFIO_IOMMU_MAP_DMA, vfio_iommu_type1_dma_map, fields));
    }
    case 'vfio_unmap':
      return unmap(engine, step);
  }
}

function plain(engine: Engine, number: number, argument: number): EngineOutcome {
  const result = engine.file.ioctl(engine.clients[0].process, number, BigInt(argument));
  engine.sim.assertNothingHeld();
  return answer({ result, reply: undefined }, (_reply, value) => ({ value }));
}

function unmap(engine: Engine, step: Step & { op: 'vfio_unmap' }): EngineOutcome {
  const { argsz, flags, iova, length: size } = step;
  const fields = { argsz, flags, iova, size };
  const { VFIO_IOMMU_UNMAP_DMA, vfio_iommu_type1_dma_unmap } = vfio;
  const call = engine.sized(
    0,
    VFIO_IOMMU_UNMAP_DMA,
    vfio_iommu_type1_dma_unmap,
    fields,
    step.readOnly,
  );
  return { ...answer(call), out: step.readOnly ? {} : { size: call.reply.size } };
}
