//go:build race

package compiled

const raceDetector = true
