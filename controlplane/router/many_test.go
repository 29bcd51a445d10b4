//go:build !race

package router

// manyRoutes is what a large table has in tests.
const manyRoutes = 1_000_000
