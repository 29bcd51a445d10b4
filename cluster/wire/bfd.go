package wire

import (
	"net/netip"
	"time"

	"godwit/fib"
)

// BFDSession is one BFD session that a card shall hold. It may have a key in
// it: never log it.
type BFDSession struct {
	VRF        fib.VRF         `json:"vrf"`
	Interface  fib.InterfaceID `json:"interface,omitempty"` // the neighbour's; 0: it is several hops away
	Peer       netip.Addr      `json:"peer"`                // without a zone
	Local      netip.Addr      `json:"local,omitzero"`      // several hops: our address; else the card takes the interface's
	MinTx      time.Duration   `json:"min_tx_ns"`
	MinRx      time.Duration   `json:"min_rx_ns"`
	MinEcho    time.Duration   `json:"min_echo_ns,omitempty"` // 0: echo packets are not reflected
	Multiplier uint8           `json:"multiplier"`
	MinTTL     uint8           `json:"min_ttl,omitempty"` // several hops: the least accepted
	Passive    bool            `json:"passive,omitempty"`
	Shutdown   bool            `json:"shutdown,omitempty"` // administratively down
	Auth       string          `json:"auth,omitempty"`     // "simple", "md5", "meticulous-md5", "sha1", "meticulous-sha1"
	KeyID      uint8           `json:"key_id,omitempty"`
	Key        string          `json:"key,omitempty"`
}

// BFDStatus is one BFD session as it is.
type BFDStatus struct {
	VRF           fib.VRF         `json:"vrf"`
	Interface     fib.InterfaceID `json:"interface,omitempty"`
	Peer          netip.Addr      `json:"peer"`
	Local         netip.Addr      `json:"local,omitzero"`
	State         string          `json:"state"`  // "admin-down", "down", "init", "up"
	Remote        string          `json:"remote"` // the neighbour's
	Diag          string          `json:"diag"`   // why the state changed last
	RemoteDiag    string          `json:"remote_diag"`
	Failed        bool            `json:"failed"` // was up, and is down for another reason than an administrator
	Discriminator uint32          `json:"discriminator"`
	RemoteDiscr   uint32          `json:"remote_discriminator"`
	Tx            time.Duration   `json:"tx_ns"` // intervals as negotiated; 0: no packets
	Rx            time.Duration   `json:"rx_ns"`
	Detection     time.Duration   `json:"detection_ns"`
	RemoteMinTx   time.Duration   `json:"remote_min_tx_ns"`
	RemoteMinRx   time.Duration   `json:"remote_min_rx_ns"`
	Multiplier    uint8           `json:"multiplier"`
	RemoteMult    uint8           `json:"remote_multiplier"`
	Auth          string          `json:"auth"`
	Age           time.Duration   `json:"age_ns"` // in this state
	Sent          uint64          `json:"sent"`
	Received      uint64          `json:"received"`
	Refused       uint64          `json:"refused"` // wrong TTL or authentication
	Flaps         uint64          `json:"flaps"`   // how often it left "up"
	Removed       bool            `json:"removed,omitempty"`
}

// BFDList is the reply to GetBFD.
type BFDList struct {
	Card     fib.CardID    `json:"card"`
	Sessions []BFDStatus   `json:"sessions"`
	Drops    []Drop        `json:"drops"`
	Echoes   uint64        `json:"echoes"`    // echo packets reflected
	LateMost time.Duration `json:"late_most"` // that a timer ran late
	LateLong uint64        `json:"late_long"` // timers that ran more than 5 ms late
}
