// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import { type Capability, CapabilityId } from './capability.ts';
import type { ConfigRegister, ConfigSpace } from './config_space.ts';

/** Device/Port types. Source: Linux include/uapi/linux/pci_regs.h (PCI_EXP_TYPE_*). */
export const ExpressType = { ENDPOINT: 0x0, RC_INTEGRATED_ENDPOINT: 0x9 } as const;
export type ExpressType = (typeof ExpressType)[keyof typeof ExpressType];

const DEVICE_CONTROL = 0x08;

export interface ExpressOptions {
  /** What it is: an endpoint of the root complex itself, unless told. */
  readonly type?: ExpressType;
  /** It can be reset on its own (FLR). Default true. */
  readonly functionLevelReset?: boolean;
}

/**
 * The PCI Express capability, version 2, without link registers' contents: an endpoint in the root complex has no link.
 * Source of the layout: Linux include/uapi/linux/pci_regs.h (PCI_EXP_*); reset values: unverified.
 */
export class ExpressCapability implements Capability {
  readonly name = 'PCI Express';
  readonly id = CapabilityId.EXPRESS;
  readonly bytes = 0x3c;
  readonly registers: readonly ConfigRegister[];
  readonly hasFunctionLevelReset: boolean;
  readonly #control = register('Device Control', {
    CorrectableErrorReportingEnable: field(0, 0),
    NonFatalErrorReportingEnable: field(1, 1),
    FatalErrorReportingEnable: field(2, 2),
    UnsupportedRequestReportingEnable: field(3, 3),
    EnableRelaxedOrdering: field(4, 4),
    MaxPayloadSize: field(7, 5),
    ExtendedTagFieldEnable: field(8, 8),
    EnableNoSnoop: field(11, 11),
    MaxReadRequestSize: field(14, 12),
    // Reads 0: the function takes the 1 away again.
    InitiateFunctionLevelReset: field(15, 15),
  });
  #config: ConfigSpace | undefined = undefined;
  #at = 0;

  constructor(options: ExpressOptions = {}) {
    const { type = ExpressType.RC_INTEGRATED_ENDPOINT, functionLevelReset = true } = options;
    this.hasFunctionLevelReset = functionLevelReset;
    const RO = { access: 'RO' } as const;
    const RW1C = { access: 'RW1C' } as const;
    const capabilities = register('PCI Express Capabilities', {
      CapabilityVersion: field(3, 0, RO),
      DevicePortType: field(7, 4, RO),
    });
    const deviceCapabilities = register('Device Capabilities', {
      MaxPayloadSizeSupported: field(2, 0, RO),
      ExtendedTagFieldSupported: field(5, 5, RO),
      RoleBasedErrorReporting: field(15, 15, RO),
      FunctionLevelResetCapability: field(28, 28, RO),
    });
    const { fields } = deviceCapabilities;
    let supported = fields.RoleBasedErrorReporting.setLo(0, 1);
    if (functionLevelReset) supported = fields.FunctionLevelResetCapability.setLo(supported, 1);
    const deviceStatus = register('Device Status', {
      CorrectableErrorDetected: field(0, 0, RW1C),
      NonFatalErrorDetected: field(1, 1, RW1C),
      FatalErrorDetected: field(2, 2, RW1C),
      UnsupportedRequestDetected: field(3, 3, RW1C),
      TransactionsPending: field(5, 5, RO),
    });
    // 512 bytes a read request, relaxed ordering and no snoop allowed.
    const control = 0x2810;
    this.registers = [
      { at: 0x02, bytes: 2, value: 2 | (type << 4), register: capabilities },
      { at: 0x04, bytes: 4, value: supported, register: deviceCapabilities },
      { at: DEVICE_CONTROL, bytes: 2, value: control, register: this.#control },
      { at: 0x0a, bytes: 2, register: deviceStatus },
    ];
  }

  get at(): number {
    return this.#at;
  }

  place(config: ConfigSpace, at: number): void {
    this.#config = config;
    this.#at = at;
  }

  /** For the function, after a write: software asked for a reset. The request is taken away. */
  takeResetRequest(): boolean {
    const config = this.#config;
    if (!config) return false;
    const value = config.get(this.#at + DEVICE_CONTROL, 2);
    const { InitiateFunctionLevelReset: request } = this.#control.fields;
    if (request.get(value) === 0) return false;
    config.set(this.#at + DEVICE_CONTROL, 2, request.setLo(value, 0));
    return this.hasFunctionLevelReset;
  }
}
