// SPDX-License-Identifier: Apache-2.0
// Executes a command as in a container with Docker's default profile and no CAP_SYS_PTRACE: what matters of it to us.
// With the argument "strict" first, process_vm_readv is refused as well.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REFUSE(nr, error) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error)

int main(int argc, char **argv) {
  int strict = !strcmp(argv[1], "strict");
  struct sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      REFUSE(SYS_kcmp, EPERM),
      REFUSE(438 /* pidfd_getfd */, EPERM),
      REFUSE(SYS_process_madvise, EPERM),
      REFUSE(435 /* clone3 */, ENOSYS),
      REFUSE(strict ? SYS_process_vm_readv : SYS_kcmp, EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof program / sizeof *program, program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) return 90;
  execvp(argv[1 + strict], argv + 1 + strict);
  return 91;
}
