// SPDX-License-Identifier: Apache-2.0
// One ioctl with a structure of 64 bytes, many times: IOMMU_OPTION with a zero tail, which the kernel reads whole and
// writes back in part. Where `-f FILE` names another file, whoever answers only has to answer.
#include "bench.h"

int main(int argc, char **argv)
{
	struct {
		struct iommu_option option;
		char tail[64 - sizeof(struct iommu_option)];
	} cmd = { .option = { .size = 64, .option_id = IOMMU_OPTION_RLIMIT_MODE, .op = IOMMU_OPTION_OP_GET } };
	const char *file = "/dev/iommu";
	struct series *s = series("64-byte ioctl");
	int fd, option, i;

	while ((option = getopt(argc, argv, "f:")) > 0)
		if (option == 'f')
			file = optarg;
	fd = open(file, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		perror(file);
		return 1;
	}
	// The first thousand warm up whoever answers.
	for (i = 0; i < 1000; i++)
		ioctl(fd, IOMMU_OPTION, &cmd);
	for (i = 0; i < 10000; i++)
		if (TIMED(s, ioctl(fd, IOMMU_OPTION, &cmd)))
			break;
	row(s);
	return 0;
}
