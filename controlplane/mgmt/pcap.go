package mgmt

import (
	"encoding/binary"
	"time"
)

// Frame is a captured frame. Without Data it tells only that the capture runs.
type Frame struct {
	Time   time.Time
	Length int // before it was cut
	Out    bool
	Data   []byte
}

// pcapHeader opens a pcap file: nanosecond time stamps, Ethernet.
func pcapHeader(snap int) []byte {
	if snap == 0 {
		snap = 262144
	}
	b := make([]byte, 0, 24)
	b = binary.LittleEndian.AppendUint32(b, 0xa1b23c4d) // magic: nanoseconds
	b = binary.LittleEndian.AppendUint16(b, 2)          // version 2.4
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = binary.LittleEndian.AppendUint64(b, 0) // time zone, accuracy
	b = binary.LittleEndian.AppendUint32(b, uint32(snap))
	return binary.LittleEndian.AppendUint32(b, 1) // LINKTYPE_ETHERNET
}

// record is the frame as a record of a pcap file.
func (f *Frame) record() []byte {
	b := make([]byte, 0, 16+len(f.Data))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.Time.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.Time.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(max(f.Length, len(f.Data))))
	return append(b, f.Data...)
}
