/*
 * Looks addresses up in DPDK's rte_fib (IPv4, dir24_8) or rte_fib6 (IPv6,
 * trie): the baseline of "bench fib". bench builds it into a temporary folder.
 *
 *   fib FILE    for each line on standard input: one round of lookups, and a
 *               line "SCALAR VECTOR" on standard output, lookups a second of
 *               this thread's CPU time; VECTOR is 0 where the processor has none
 *
 * FILE: family (4 or 6), routes, addresses as 32-bit words; then for each route
 * 16 bytes of address (IPv4 in the first 4), length and next hop as words; then
 * 16 bytes an address. Words are the machine's, addresses in network order.
 *
 * The few declarations are those of Debian 12's DPDK 22.11 (ABI 23), so that
 * the libraries are enough to build it: libdpdk-dev comes with 200 packages.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct conf {
	int type; /* 1: dir24_8, trie */
	uint64_t default_nh;
	int max_routes;
	unsigned int rib_ext_sz;
	int nh_sz; /* 1: 2 bytes, 2: 4 bytes */
	uint32_t num_tbl8;
};

int rte_eal_init(int argc, char **argv);
void *rte_fib_create(const char *name, int socket, struct conf *conf);
int rte_fib_add(void *fib, uint32_t ip, uint8_t depth, uint64_t next_hop);
int rte_fib_lookup_bulk(void *fib, uint32_t *ips, uint64_t *next_hops, int n);
int rte_fib_select_lookup(void *fib, int type);
void *rte_fib6_create(const char *name, int socket, struct conf *conf);
int rte_fib6_add(void *fib, const uint8_t ip[16], uint8_t depth, uint64_t next_hop);
int rte_fib6_lookup_bulk(void *fib, uint8_t ips[][16], uint64_t *next_hops, int n);
int rte_fib6_select_lookup(void *fib, int type);

enum { BULK = 64, NONE = 0 };

struct route {
	uint8_t addr[16];
	uint32_t len, next_hop;
};

static void die(const char *what)
{
	fprintf(stderr, "fib: %s\n", what);
	exit(1);
}

static void *must_read(FILE *f, size_t size, size_t n)
{
	void *p = malloc(size * n + 1);

	if (!p || fread(p, size, n, f) != n)
		die("short file");
	return p;
}

/*
 * Our tables are in large pages, so theirs are, too: memory that was given out
 * so far moves into mappings that may have them, at the same addresses.
 */
static void large_pages(void)
{
	unsigned long from[64], to[64];
	int i, n = 0;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && n < 64 && fgets(line, sizeof line, f))
		n += sscanf(line, "%lx-%lx rw", &from[n], &to[n]) == 2 && strstr(line, "rw") &&
		     to[n] - from[n] >= 64ul << 20;
	if (f)
		fclose(f);
	for (i = 0; i < n; i++) {
		size_t size = to[i] - from[i], at;
		char *p = (char *)from[i], *copy = malloc(size), page[4096] = {0};

		if (!copy)
			die("no memory");
		memcpy(copy, p, size);
		if (mmap(p, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p)
			die("cannot move memory");
		madvise(p, size, MADV_HUGEPAGE);
		for (at = 0; at < size; at += sizeof page)
			if (memcmp(copy + at, page, sizeof page))
				memcpy(p + at, copy + at, sizeof page);
		free(copy);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *build(int v6, const struct route *r, uint32_t n)
{
	struct conf c = {.type = 1, .default_nh = NONE, .max_routes = n + 1000, .nh_sz = v6 ? 2 : 1,
			 .num_tbl8 = v6 ? 4096 + 2 * n : 32767};
	void *fib = v6 ? rte_fib6_create("bench", -1, &c) : rte_fib_create("bench", -1, &c);
	uint32_t i, ip;

	if (!fib)
		die("cannot create the table");
	for (i = 0; i < n; i++) {
		memcpy(&ip, r[i].addr, 4);
		if (v6 ? rte_fib6_add(fib, r[i].addr, r[i].len, r[i].next_hop)
		       : rte_fib_add(fib, ntohl(ip), r[i].len, r[i].next_hop))
			die("cannot add a route");
	}
	return fib;
}

static double run(void *fib, int v6, void *addrs, uint32_t n)
{
	uint64_t out[BULK];
	uint32_t i, j, missed = 0;
	double start = now(), end;

	for (i = 0; i + BULK <= n; i += BULK) {
		if (v6)
			rte_fib6_lookup_bulk(fib, (uint8_t(*)[16])addrs + i, out, BULK);
		else
			rte_fib_lookup_bulk(fib, (uint32_t *)addrs + i, out, BULK);
	}
	end = now();
	for (j = 0; j < BULK; j++)
		missed += out[j] == NONE;
	if (missed)
		die("an announced address has no route");
	return i / (end - start);
}

int main(int argc, char **argv)
{
	char mb[16];
	char *eal[] = {"fib", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-l", "0", "-m", mb,
		       "--log-level", "error", "--force-max-simd-bitwidth", "512", NULL};
	char line[64];
	FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;
	uint32_t *head, i, *v4;
	struct route *routes;
	uint8_t *addrs;
	void *fib;
	int v6;

	if (!f)
		die("usage: fib FILE");
	head = must_read(f, 4, 3);
	v6 = head[0] == 6;
	routes = must_read(f, sizeof *routes, head[1]);
	addrs = must_read(f, 16, head[2]);
	snprintf(mb, sizeof mb, "%u", 256 + head[1] / (v6 ? 350 : 2500));
	if (rte_eal_init(sizeof eal / sizeof *eal - 1, eal) < 0)
		die("cannot start DPDK");
	large_pages();
	fib = build(v6, routes, head[1]);
	v4 = malloc(4ul * head[2]);
	for (i = 0; i < head[2]; i++) {
		memcpy(&v4[i], addrs + 16ul * i, 4);
		v4[i] = ntohl(v4[i]);
	}
	while (fgets(line, sizeof line, stdin)) {
		double scalar, vector = 0;

		if (v6 ? rte_fib6_select_lookup(fib, 1) : rte_fib_select_lookup(fib, 1))
			die("cannot select the scalar lookup");
		scalar = run(fib, v6, v6 ? (void *)addrs : v4, head[2]);
		if (!(v6 ? rte_fib6_select_lookup(fib, 2) : rte_fib_select_lookup(fib, 4)))
			vector = run(fib, v6, v6 ? (void *)addrs : v4, head[2]);
		printf("%.0f %.0f\n", scalar, vector);
		fflush(stdout);
	}
	return 0;
}
