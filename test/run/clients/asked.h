// SPDX-License-Identifier: Apache-2.0
// Questions whose answers were recorded on Linux 7.2 (vfio.test.ts says how): each line of output is a call, as it stands in the program, and
// its answer. Numbers of descriptors differ, so success is "ok".
#define ASK(call)                                                                       \
    do {                                                                                \
        long answer = (long)(call);                                                     \
        printf("%s: %s\n", #call, answer < 0 ? strerrorname_np(errno) : "ok");          \
    } while (0)
#define SHOW(value) printf("%s: %#llx\n", #value, (unsigned long long)(value))

#define DEVICE "0000:00:02.0"
#define CDEV "/dev/vfio/devices/vfio0"
#define PAGE 4096
