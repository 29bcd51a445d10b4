// Package system tests whole routers: processes as they ship, in namespaces,
// with BIRD, FRR and GoBGP as peers and real hosts as customers. The topology is
// configs/lab/system.yaml; it is built once for most tests. The binaries are
// those of "make build".
package system
