package linecard

import (
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/fib"
)

type subscriber struct{ a *Agent }

func newSubscriber(a *Agent) *subscriber { return &subscriber{a} }

func (f *subscriber) batch(s *session.Session, body []byte) {
	var b fib.Batch
	ack := wire.FIBAckBody{}
	if err := wire.Decode(body, &b); err != nil {
		ack.Error = err.Error()
	} else if err := f.a.tables.Apply(b); err != nil {
		ack.Error = err.Error()
	} else {
		ack.Epoch, ack.Seq = b.Epoch, b.Seq
	}
	f.a.effects()
	_ = s.SendJSON(wire.FIBAck, ack)
}
func (f *subscriber) closed(s *session.Session) {}
