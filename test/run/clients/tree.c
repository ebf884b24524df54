// SPDX-License-Identifier: Apache-2.0
// What a program finds of the machine in sysfs and below /dev/vfio, by absolute, relative and dirfd paths: one line for each look.
// `bug`: lists a directory of the test's own tree, then makes the test device stop the supervisor.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define BDF "0000:00:02.0"
#define HOME "/sys/devices/pci0000:00/" BDF

static void result(const char *what, long value)
{
    if (value < 0)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: ok\n", what);
}

static void text(const char *what, int fd)
{
    char bytes[256];
    ssize_t got = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes) - 1);

    if (got < 0) {
        result(what, -1);
        return;
    }
    bytes[got] = 0;
    bytes[strcspn(bytes, "\n")] = 0;
    printf("%s: %s\n", what, bytes);
    close(fd);
}

static void link_of(const char *what, int dirfd, const char *path)
{
    char target[PATH_MAX];
    ssize_t got = readlinkat(dirfd, path, target, sizeof(target) - 1);

    target[got < 0 ? 0 : got] = 0;
    if (got < 0)
        result(what, -1);
    else
        printf("%s: %s\n", what, target);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void list(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name), i;

    if (count < 0) {
        result(path, -1);
        return;
    }
    printf("%s:", path);
    for (i = 0; i < count; i++)
        if (entries[i]->d_name[0] != '.')
            printf(" %s%s", entries[i]->d_name, entries[i]->d_type == DT_LNK ? "@" : entries[i]->d_type == DT_DIR ? "/" : "");
    printf("\n");
}

static void real(const char *path)
{
    char *found = realpath(path, NULL);

    printf("realpath %s: %s\n", path, found ? found : strerrorname_np(errno));
    free(found);
}

int main(int argc, char **argv)
{
    struct stat st;
    struct statx stx;
    char bytes[64];
    int fd, devices;

    if (argc > 1) {
        list("/sys/class/iommulator-test");
        text("file", open("/sys/class/iommulator-test/file", O_RDONLY));
        fflush(stdout);
        return ioctl(open("/dev/iommu", O_RDWR), 0x3bf6, 0);
    }
    list("/dev/vfio");
    list("/dev/vfio/devices");
    list(DEVICES "/" BDF);
    list(DEVICES "/" BDF "/vfio-dev");
    list("/sys/kernel/iommu_groups/0/devices");
    list("/sys/class/vfio-dev");
    text("vendor", open(DEVICES "/" BDF "/vendor", O_RDONLY));
    text("class", open(DEVICES "/" BDF "/class", O_RDONLY | O_CLOEXEC));
    text("resource", open(DEVICES "/" BDF "/resource", O_RDONLY));
    text("dev", open("/sys/class/vfio-dev/vfio0/dev", O_RDONLY));
    text("reserved", open("/sys/kernel/iommu_groups/0/reserved_regions", O_RDONLY));
    text("type", open("/sys/kernel/iommu_groups/0/type", O_RDONLY));
    text("through links", open("/sys/class/vfio-dev/vfio0/device/iommu_group/devices/" BDF "/driver/" BDF "/device", O_RDONLY));
    fd = open(DEVICES "/" BDF "/config", O_RDONLY);
    result("config", pread(fd, bytes, 64, 0) == 64 && memcmp(bytes, "\x34\x12\xe8\x11", 4) == 0 ? 0 : -1);
    fstat(fd, &st);
    printf("config: mode %o, %ld bytes\n", st.st_mode, (long)st.st_size);
    close(fd);

    result("lstat of a link", lstat(DEVICES "/" BDF, &st));
    printf("it is a link: %d\n", S_ISLNK(st.st_mode));
    result("stat of a link", stat(DEVICES "/" BDF, &st));
    printf("it is a directory: %d\n", S_ISDIR(st.st_mode));
    result("stat of a link with a slash", lstat(DEVICES "/" BDF "/", &st));
    printf("it is a directory: %d\n", S_ISDIR(st.st_mode));
    result("statx", statx(AT_FDCWD, DEVICES "/" BDF "/irq", 0, STATX_BASIC_STATS, &stx));
    printf("mode %o, %d bytes\n", stx.stx_mode, (int)stx.stx_size);
    result("the node through /dev/char", stat("/dev/char/252:0", &st));
    printf("mode %o, %u:%u\n", st.st_mode, major(st.st_rdev), minor(st.st_rdev));
    link_of("device", AT_FDCWD, DEVICES "/" BDF);
    link_of("iommu_group", AT_FDCWD, DEVICES "/" BDF "/iommu_group");
    link_of("driver", AT_FDCWD, DEVICES "/" BDF "/driver");
    link_of("a file", AT_FDCWD, DEVICES "/" BDF "/vendor");
    real(DEVICES "/" BDF "/iommu_group");
    real(DEVICES "/" BDF "/vfio-dev/vfio0/subsystem");
    result("access", access(DEVICES "/" BDF "/vendor", R_OK));
    result("faccessat of a directory", faccessat(AT_FDCWD, DEVICES "/" BDF, X_OK, 0));
    result("getxattr", lgetxattr(DEVICES "/" BDF, "security.selinux", bytes, sizeof(bytes)));
    result("listxattr", listxattr(DEVICES "/" BDF, bytes, sizeof(bytes)));

    result("nothing there", open(DEVICES "/" BDF "/nothing", O_RDONLY));
    result("a file as directory", open(DEVICES "/" BDF "/vendor/x", O_RDONLY));
    result("a file with a slash", open(DEVICES "/" BDF "/vendor/", O_RDONLY));
    result("for writing", open(DEVICES "/" BDF "/vendor", O_WRONLY));
    result("a new file", open(DEVICES "/" BDF "/new", O_WRONLY | O_CREAT, 0600));
    result("a directory for writing", open(DEVICES "/" BDF, O_WRONLY));
    result("a link that is not followed", open(DEVICES "/" BDF "/driver", O_RDONLY | O_NOFOLLOW));
    result("a file as O_DIRECTORY", open(DEVICES "/" BDF "/vendor", O_RDONLY | O_DIRECTORY));
    result("exclusively", open(DEVICES "/" BDF "/vendor", O_RDONLY | O_CREAT | O_EXCL, 0600));

    devices = open(DEVICES, O_RDONLY | O_DIRECTORY);
    text("by dirfd", openat(devices, BDF "/vendor", O_RDONLY));
    text("by dirfd and dots", openat(devices, "../devices/./" BDF "/../" BDF "/device", O_RDONLY));
    link_of("link by dirfd", devices, BDF);
    result("fstatat by dirfd", fstatat(devices, BDF "/vfio-dev", &st, 0));
    result("nothing by dirfd", openat(devices, "0000:77:00.0/vendor", O_RDONLY));
    fd = openat(devices, BDF, O_RDONLY | O_DIRECTORY);
    text("by a directory below", openat(fd, "subsystem_vendor", O_RDONLY));
    text("a path that ignores dirfd", openat(fd, DEVICES "/" BDF "/revision", O_RDONLY));
    snprintf(bytes, sizeof(bytes), "/proc/self/fd/%d", fd);
    link_of("the directory in /proc", AT_FDCWD, bytes);
    result("fchdir", fchdir(fd));
    text("relative", open("subsystem_device", O_RDONLY));
    text("relative with dots", open("../" BDF "/numa_node", O_RDONLY));
    result("relative access", access("vfio-dev/vfio0/dev", R_OK));
    close(fd);
    fd = open("/dev/vfio/devices", O_RDONLY | O_DIRECTORY);
    result("the node by dirfd", openat(fd, "vfio0", O_RDWR));
    result("the node's stat by dirfd", fstatat(fd, "vfio0", &st, 0));
    printf("mode %o, %u:%u\n", st.st_mode, major(st.st_rdev), minor(st.st_rdev));
    return 0;
}
