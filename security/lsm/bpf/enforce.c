// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
//
// enforce: what processes of one cgroup may run. Processes outside of the cgroup
// are let through by the first test of every program.
//
// A file may be executed or mapped executable when the loader has marked its
// inode (gwlsm_verified) and it is a memory file with all seals, so that its
// bytes can never change; or, built WITH_DIGESTS, when its fs-verity digest is
// listed. The mark is kept with the inode, not under its number: it cannot pass
// to another file.

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EPERM 1

// Of the kernel's headers.
#define PROT_WRITE 0x2
#define PROT_EXEC 0x4
#define VM_EXEC 0x4
#define FMODE_WRITE 0x2
#define PTRACE_MODE_ATTACH 0x2
#define CLONE_INTO_CGROUP 0x200000000ULL
#define TMPFS_MAGIC 0x01021994
#define PROC_SUPER_MAGIC 0x9fa0
#define CGROUP_SUPER_MAGIC 0x27e0eb
#define CGROUP2_SUPER_MAGIC 0x63677270
#define BPF_FS_MAGIC 0xcafe4a11
#define SEALS 0xf /* F_SEAL_SEAL, _SHRINK, _GROW, _WRITE */
#define READING_MODULE 2
#define READING_KEXEC_INITRAMFS 4
#define MAX_DIGEST 64

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[];
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	int tgid;
	struct css_set *cgroups;
};

struct super_block {
	unsigned long s_magic;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
};

struct shmem_inode_info {
	unsigned int seals;
	struct inode vfs_inode;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct super_block *d_sb;
};

struct vfsmount {
	struct super_block *mnt_sb;
};

struct path {
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	struct path f_path;
	struct inode *f_inode;
};

struct linux_binprm {
	struct file *file;
};

struct vm_area_struct {
	unsigned long vm_flags;
	struct file *vm_file;
};

struct bpf_map {
	char name[BPF_OBJ_NAME_LEN];
};

#pragma clang attribute pop

// The cgroup, and how deep it lies; set before the programs are loaded.
const volatile __u64 scope_id = 0;
const volatile int scope_level = 0;

// gwlsm_verified: inodes of sealed memory files that passed verification.
struct {
	__uint(type, BPF_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} gwlsm_verified SEC(".maps");

// digest is a fs-verity file digest: struct fsverity_digest (linux/fsverity.h)
// with room for the longest.
struct digest {
	__u16 algorithm;
	__u16 size;
	__u8 bytes[MAX_DIGEST];
};

// gwlsm_digests: digests of files that may be executed or mapped besides.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct digest);
	__type(value, __u32);
} gwlsm_digests SEC(".maps");

enum reason {
	REASON_EXEC = 1,
	REASON_MAP,
	REASON_ANONYMOUS,
	REASON_PROTECT,
	REASON_PTRACE,
	REASON_MEMORY,
	REASON_CGROUP,
	REASON_BPF,
	REASON_KERNEL,
	REASONS,
};

// denial is what is told of a refusal. Natural alignment, no padding.
struct denial {
	__u64 time; // ns since boot (monotonic)
	__u64 inode;
	__u32 reason;
	__u32 pid;
	char command[16];
	char file[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} gwlsm_denials SEC(".maps");

// gwlsm_counts: denials by reason. The ring may be full, these count all.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} gwlsm_counts SEC(".maps");

// The type must be in the object's BTF, for the Go code that is made from it.
const struct denial *unused_denial __attribute__((unused));

static __always_inline int outside(void)
{
	return bpf_get_current_ancestor_cgroup_id(scope_level) != scope_id;
}

// task_inside tells whether another task is in the cgroup.
static __always_inline int task_inside(struct task_struct *task)
{
	struct cgroup *group = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct cgroup *above = 0;

	if (BPF_CORE_READ(group, level) < scope_level)
		return 0;
	bpf_probe_read_kernel(&above, sizeof(above),
			      (void *)group + bpf_core_field_offset(struct cgroup, ancestors) +
				      scope_level * sizeof(above));
	return BPF_CORE_READ(above, kn, id) == scope_id;
}

static __always_inline void report(__u32 reason, struct file *file)
{
	struct denial *d;
	__u64 *count = bpf_map_lookup_elem(&gwlsm_counts, &reason);

	if (count)
		__sync_fetch_and_add(count, 1);
	d = bpf_ringbuf_reserve(&gwlsm_denials, sizeof(*d), 0);
	if (!d)
		return;
	d->time = bpf_ktime_get_ns();
	d->inode = 0;
	d->reason = reason;
	d->pid = bpf_get_current_pid_tgid() >> 32;
	d->file[0] = 0;
	bpf_get_current_comm(d->command, sizeof(d->command));
	if (file) {
		const unsigned char *name = BPF_CORE_READ(file, f_path.dentry, d_name.name);

		d->inode = BPF_CORE_READ(file, f_inode, i_ino);
		bpf_probe_read_kernel_str(d->file, sizeof(d->file), name);
	}
	bpf_ringbuf_submit(d, 0);
}

// sealed tells whether a memory file can never change again.
static __always_inline int sealed(struct inode *inode)
{
	void *info;

	if (BPF_CORE_READ(inode, i_sb, s_magic) != TMPFS_MAGIC)
		return 0;
	// As a number: the verifier does not let a typed pointer go below its object.
	bpf_probe_read_kernel(&info, sizeof(info), &inode);
	info -= bpf_core_field_offset(struct shmem_inode_info, vfs_inode);
	return (BPF_CORE_READ((struct shmem_inode_info *)info, seals) & SEALS) == SEALS;
}

static __always_inline int verified(struct file *file)
{
	struct inode *inode = file->f_inode;
	__u32 *mark = bpf_inode_storage_get(&gwlsm_verified, inode, 0, 0);

	return mark && *mark && sealed(inode);
}

// name_is compares a kernel string with a short one.
static __always_inline int begins(const unsigned char *name, const char *want, int n)
{
	char have[16] = {};

	if (n > (int)sizeof(have))
		return 0;
	bpf_probe_read_kernel(have, n, name);
	for (int i = 0; i < n; i++)
		if (have[i] != want[i])
			return 0;
	return 1;
}

#ifdef WITH_DIGESTS

// gwlsm_scratch: room for a digest that no other task sees meanwhile.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} gwlsm_scratch SEC(".maps");

extern int bpf_get_fsverity_digest(struct file *file, struct bpf_dynptr *digest) __ksym;

// listed tells whether the file's contents are protected by fs-verity and its
// digest is listed.
static __always_inline int listed(struct file *file)
{
	struct digest key = {};
	struct bpf_dynptr room;
	int found = 0;

	if (bpf_ringbuf_reserve_dynptr(&gwlsm_scratch, sizeof(key), 0, &room) == 0 &&
	    bpf_get_fsverity_digest(file, &room) >= 0 && bpf_dynptr_read(&key, sizeof(key), &room, 0, 0) == 0)
		found = bpf_map_lookup_elem(&gwlsm_digests, &key) != 0;
	bpf_ringbuf_discard_dynptr(&room, 0);
	return found;
}

#define SLEEPABLE ".s"

#else

static __always_inline int listed(struct file *file)
{
	return 0;
}

#define SLEEPABLE ""

#endif

// Executing: the file, and each interpreter that it names.

SEC("lsm" SLEEPABLE "/bprm_check_security")
int BPF_PROG(gw_exec, struct linux_binprm *bprm)
{
	if (outside() || verified(bprm->file) || listed(bprm->file))
		return 0;
	report(REASON_EXEC, bprm->file);
	return -EPERM;
}

// executable_mapping returns 0 (let it pass), 1 (anonymous) or 2 (look at the
// file). Some kernels' verifiers take the file for always there and would drop
// a test of the typed pointer.
static __always_inline int executable_mapping(unsigned long long *ctx, unsigned long prot)
{
	__u64 file = 0;

	if (!(prot & PROT_EXEC) || outside())
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), &ctx[0]);
	return file ? 2 : 1;
}

SEC("lsm" SLEEPABLE "/mmap_file")
int BPF_PROG(gw_map, struct file *file, unsigned long reqprot, unsigned long prot)
{
	int kind = executable_mapping(ctx, prot);

	if (kind == 0)
		return 0;
	if (kind == 1) {
		report(REASON_ANONYMOUS, 0);
		return -EPERM;
	}
	if (!file || (!(prot & PROT_WRITE) && (verified(file) || listed(file))))
		return 0;
	report(REASON_MAP, file);
	return -EPERM;
}

// Memory that was not executable when it was mapped never becomes it.
SEC("lsm/file_mprotect")
int BPF_PROG(gw_protect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	if (!(prot & PROT_EXEC) || outside())
		return 0;
	if ((vma->vm_flags & VM_EXEC) && !(prot & PROT_WRITE))
		return 0;
	report(REASON_PROTECT, 0);
	return -EPERM;
}

// Nobody changes the memory of a process inside, and none inside that of others.
SEC("lsm/ptrace_access_check")
int BPF_PROG(gw_trace, struct task_struct *child, unsigned int mode)
{
	if (!(mode & PTRACE_MODE_ATTACH) || (outside() && !task_inside(child)))
		return 0;
	report(REASON_PTRACE, 0);
	return -EPERM;
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(gw_traceme, struct task_struct *parent)
{
	if (outside())
		return 0;
	report(REASON_PTRACE, 0);
	return -EPERM;
}

// helper tells whether a file of /proc names a program that the kernel starts,
// outside of every cgroup.
static __always_inline int helper(const unsigned char *name)
{
	return begins(name, "core_pattern", 13) || begins(name, "modprobe", 9) || begins(name, "poweroff_cmd", 13);
}

// Opening for writing what leads around the rest: a process's own memory past
// its protection, the programs that the kernel starts, and the cgroups, to leave
// this one.
SEC("lsm/file_open")
int BPF_PROG(gw_open, struct file *file)
{
	unsigned long magic;
	__u32 reason;

	if (!(file->f_mode & FMODE_WRITE) || outside())
		return 0;
	magic = file->f_inode->i_sb->s_magic;
	if (magic == CGROUP2_SUPER_MAGIC || magic == CGROUP_SUPER_MAGIC)
		reason = REASON_CGROUP;
	else if (magic == PROC_SUPER_MAGIC && begins(file->f_path.dentry->d_name.name, "mem", 4))
		reason = REASON_MEMORY;
	else if (magic == PROC_SUPER_MAGIC && helper(file->f_path.dentry->d_name.name))
		reason = REASON_KERNEL;
	else
		return 0;
	report(reason, file);
	return -EPERM;
}

SEC("lsm/task_alloc")
int BPF_PROG(gw_alloc, struct task_struct *task, unsigned long clone_flags)
{
	if (!(clone_flags & CLONE_INTO_CGROUP) || outside())
		return 0;
	report(REASON_CGROUP, 0);
	return -EPERM;
}

// The programs that look into the kernel, or change it, are not for inside.
static __always_inline int harmless(__u32 type)
{
	switch (type) {
	case BPF_PROG_TYPE_SOCKET_FILTER:
	case BPF_PROG_TYPE_SCHED_CLS:
	case BPF_PROG_TYPE_SCHED_ACT:
	case BPF_PROG_TYPE_XDP:
		return 1;
	}
	return 0;
}

SEC("lsm/bpf")
int BPF_PROG(gw_bpf, int cmd, union bpf_attr *attr, unsigned int size)
{
	__u32 type = 0;

	if (outside())
		return 0;
	if (cmd == BPF_PROG_LOAD) {
		bpf_probe_read_kernel(&type, sizeof(type), attr);
		if (harmless(type))
			return 0;
	} else if (cmd != BPF_LINK_DETACH) {
		return 0;
	}
	report(REASON_BPF, 0);
	return -EPERM;
}

SEC("lsm/bpf_map")
int BPF_PROG(gw_bpf_map, struct bpf_map *m, unsigned int mode)
{
	if (outside() || !begins((const unsigned char *)m->name, "gwlsm_", 6))
		return 0;
	report(REASON_BPF, 0);
	return -EPERM;
}

// Our pins stay where they are.
static __always_inline int pin(struct dentry *d)
{
	return d->d_sb->s_magic == BPF_FS_MAGIC &&
	       (begins(d->d_name.name, "godwit-lsm", 10) ||
		begins(d->d_parent->d_name.name, "godwit-lsm", 10));
}

SEC("lsm/inode_unlink")
int BPF_PROG(gw_unlink, struct inode *dir, struct dentry *dentry)
{
	if (outside() || !pin(dentry))
		return 0;
	report(REASON_BPF, 0);
	return -EPERM;
}

SEC("lsm/inode_rename")
int BPF_PROG(gw_rename, struct inode *from, struct dentry *dentry)
{
	if (outside() || !pin(dentry))
		return 0;
	report(REASON_BPF, 0);
	return -EPERM;
}

SEC("lsm/sb_umount")
int BPF_PROG(gw_umount, struct vfsmount *mount)
{
	if (outside() || mount->mnt_sb->s_magic != BPF_FS_MAGIC)
		return 0;
	report(REASON_BPF, 0);
	return -EPERM;
}

// Kernel code.
static __always_inline int kernel_code(int id)
{
	if (id < READING_MODULE || id > READING_KEXEC_INITRAMFS || outside())
		return 0;
	report(REASON_KERNEL, 0);
	return 1;
}

SEC("lsm/kernel_read_file")
int BPF_PROG(gw_read_file, struct file *file, int id)
{
	if (kernel_code(id))
		return -EPERM;
	return 0;
}

SEC("lsm/kernel_load_data")
int BPF_PROG(gw_load_data, int id)
{
	if (kernel_code(id))
		return -EPERM;
	return 0;
}
