// SPDX-License-Identifier: Apache-2.0
// What the latency programs with a device share: its regions, bus mastering, and an eventfd for its first message.
#ifndef IOMMULATOR_BENCH_VFIO_H
#define IOMMULATOR_BENCH_VFIO_H

#include <sys/eventfd.h>

#include "bench.h"
#include "../examples/first_dma/uapi.h"

// Where a region begins in the device's file; 0 where there is none.
static inline uint64_t region(int device, uint32_t index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	return ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) ? 0 : info.offset;
}

static inline int enable_bus_master(int device)
{
	uint64_t config = region(device, VFIO_PCI_CONFIG_REGION_INDEX);
	uint16_t command;

	if (pread(device, &command, 2, config + 4) != 2)
		return -1;
	command |= 4;
	return pwrite(device, &command, 2, config + 4) == 2 ? 0 : -1;
}

// A descriptor that counts the device's interrupts, or -1.
static inline int count_interrupts(int device)
{
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} irqs = { .set = { .argsz = sizeof(irqs),
			    .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			    .index = VFIO_PCI_MSI_IRQ_INDEX,
			    .count = 1 },
		   .fd = eventfd(0, EFD_CLOEXEC) };

	return ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs) ? -1 : irqs.fd;
}

#endif
