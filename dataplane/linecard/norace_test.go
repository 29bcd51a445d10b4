//go:build !race

package linecard

const raceEnabled = false
