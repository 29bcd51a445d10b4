//go:build !race

package compiled

const raceDetector = false
