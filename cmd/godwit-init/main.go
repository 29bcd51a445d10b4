// Command godwit-init is PID 1 of the router's image.
package main

import (
	"fmt"
	"os"

	"godwit/cmd/godwit-init/boot"
)

func main() {
	if err := boot.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
