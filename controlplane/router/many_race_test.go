//go:build race

package router

// manyRoutes is what a large table has in tests: the race detector makes a
// million too slow.
const manyRoutes = 200_000
