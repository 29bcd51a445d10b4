// Package netdev prepares network devices for ports.
package netdev
