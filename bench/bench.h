// SPDX-License-Identifier: Apache-2.0
// What the latency programs share: a clock, series of samples, and iommufd calls as functions that return 0 or -1.
// They print one row a line, separated by tabs: name, count, minimum, median, 99th percentile (microseconds);
// or name, "n/a", reason. They run unmodified on the real kernel too.
#ifndef IOMMULATOR_BENCH_H
#define IOMMULATOR_BENCH_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/iommufd.h>

#define KiB (1UL << 10)
#define MiB (1UL << 20)
#define GiB (1UL << 30)
#define MAX_SAMPLES 20000

struct series {
	const char *name;
	int count;
	int error; // errno of a call that failed
	double us[MAX_SAMPLES];
};

static inline double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static inline struct series *series(const char *name)
{
	struct series *s = calloc(1, sizeof(*s));

	s->name = name;
	return s;
}

static inline void add(struct series *s, double us)
{
	if (s->count < MAX_SAMPLES)
		s->us[s->count++] = us;
}

// Runs a call that returns 0 or -1, and keeps how long it took where it succeeded. Its value is the call's.
#define TIMED(s, call)                            \
	({                                        \
		double start_ = now_us();         \
		int result_ = (call);             \
		double took_ = now_us() - start_; \
		if (result_ == 0)                 \
			add(s, took_);            \
		else                              \
			(s)->error = errno;       \
		result_;                          \
	})

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static inline double median(struct series *s)
{
	if (s->count == 0)
		return 0;
	qsort(s->us, s->count, sizeof(s->us[0]), by_value);
	return s->us[s->count / 2];
}

// Prints a row and frees the series.
static inline void row(struct series *s)
{
	double p50 = median(s);

	if (s->count > 0)
		printf("%s\t%d\t%.2f\t%.2f\t%.2f\n", s->name, s->count, s->us[0], p50, s->us[s->count * 99 / 100]);
	else
		printf("%s\tn/a\t%s\n", s->name, s->error ? strerror(s->error) : "what precedes it failed");
	free(s);
}

static inline int destroy(int fd, uint32_t id)
{
	struct iommu_destroy cmd = { .size = sizeof(cmd), .id = id };

	return ioctl(fd, IOMMU_DESTROY, &cmd);
}

static inline int ioas_alloc(int fd, uint32_t *id)
{
	struct iommu_ioas_alloc cmd = { .size = sizeof(cmd) };
	int result = ioctl(fd, IOMMU_IOAS_ALLOC, &cmd);

	*id = cmd.out_ioas_id;
	return result;
}

#define READ_WRITE (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)

static inline int map_fixed(int fd, uint32_t ioas, void *va, uint64_t length, uint64_t iova)
{
	struct iommu_ioas_map cmd = {
		.size = sizeof(cmd),
		.flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.ioas_id = ioas,
		.user_va = (uintptr_t)va,
		.length = length,
		.iova = iova,
	};

	return ioctl(fd, IOMMU_IOAS_MAP, &cmd);
}

static inline int unmap(int fd, uint32_t ioas, uint64_t iova, uint64_t length)
{
	struct iommu_ioas_unmap cmd = { .size = sizeof(cmd), .ioas_id = ioas, .iova = iova, .length = length };

	return ioctl(fd, IOMMU_IOAS_UNMAP, &cmd);
}

static inline int open_iommu(void)
{
	int fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		perror("/dev/iommu");
		exit(1);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	return fd;
}

#endif
