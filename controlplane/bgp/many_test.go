//go:build !race

package bgp

// manyRoutes is what a large table has in tests.
const manyRoutes = 1_000_000
