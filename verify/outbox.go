// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import "context"

// parcels is how many batches may wait to be sent. With 8 of them, which take a
// millisecond, neither goroutine waits much for the other.
const parcels = 8

// outbox sends frames in their order, beside the goroutine that makes them and
// reads the answers. The system call that sends a frame does, on the core it
// runs on, all that the kernel has to do up to the guest's tap: that takes longer
// than making the frame and reading the answer to it.
type outbox struct {
	socket *socket
	// next is what was put in since the last flush.
	next        parcel
	full, empty chan parcel
	ended       chan struct{}
	fail        context.CancelCauseFunc
}

// parcel is frames to be sent, and their bytes.
type parcel struct {
	packets []packet
	data    []byte
}

// newOutbox returns an outbox that is to be closed, and a context that ends when
// sending fails.
func newOutbox(ctx context.Context, s *socket) (*outbox, context.Context) {
	ctx, fail := context.WithCancelCause(ctx)
	o := &outbox{
		socket: s, full: make(chan parcel, parcels), empty: make(chan parcel, parcels),
		ended: make(chan struct{}), fail: fail,
	}
	for range parcels {
		o.empty <- parcel{}
	}
	go o.send()
	return o, ctx
}

func (o *outbox) send() {
	defer close(o.ended)
	var err error
	for p := range o.full {
		if err == nil {
			if err = o.socket.send(p.packets); err != nil {
				o.fail(err)
			}
		}
		o.empty <- parcel{p.packets[:0], p.data[:0]}
	}
}

// put puts a frame in, to leave through that device.
func (o *outbox) put(device int, f frame) {
	p := &o.next
	length := f.size()
	if len(p.data)+length > cap(p.data) {
		p.data = make([]byte, 0, max(2*batch*snapLength, length)) // what is to be sent keeps the old one
	}
	p.data = p.data[:len(p.data)+length]
	data := p.data[len(p.data)-length:]
	clear(data)
	f.put(data)
	p.packets = append(p.packets, packet{device: device, data: data})
}

// waiting is how many frames were put in since the last flush.
func (o *outbox) waiting() int { return len(o.next.packets) }

// flush has the frames sent that were put in. It waits while others are not yet.
func (o *outbox) flush() {
	if o.waiting() > 0 {
		o.full <- o.next
		o.next = <-o.empty
	}
}

// close waits until everything is sent.
func (o *outbox) close() {
	o.flush()
	close(o.full)
	<-o.ended
	o.fail(nil)
}
