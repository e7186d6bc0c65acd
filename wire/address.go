package wire

const addressHeaderBytes = 16

// Address tells a server where its sender is: one that does not answer may never have
// been told, or know an old address.
//
//	 0  index 8, of the configuration that says so; 0 = the founding list
//	 8  address length 2 | zero 6
//	16  address
type Address struct {
	Index uint64
	Addr  []byte // host:port
}

// Size is the encoded length.
func (a *Address) Size() int { return addressHeaderBytes + len(a.Addr) }

// Encode writes the frame.
func (a *Address) Encode(p []byte) {
	fits("address", len(a.Addr), MaxAddr)
	le.PutUint64(p[0:], a.Index)
	le.PutUint64(p[8:], uint64(len(a.Addr)))
	copy(p[addressHeaderBytes:], a.Addr)
}

// Decode reads the frame; Addr is a view.
func (a *Address) Decode(p []byte) error {
	if len(p) < addressHeaderBytes {
		return ErrShort
	}
	if !zero(p[10:16]) {
		return ErrReserved
	}
	if err := fixed(p, addressHeaderBytes+int(le.Uint16(p[8:]))); err != nil {
		return err
	}
	if len(p) == addressHeaderBytes || !addrOK(p[addressHeaderBytes:]) {
		return ErrValue
	}
	*a = Address{Index: le.Uint64(p[0:]), Addr: p[addressHeaderBytes:]}
	return nil
}
