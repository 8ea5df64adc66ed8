package avro

// The CRC-64-AVRO fingerprint of the Avro specification, with its table of one step per byte value.
const rabinEmpty = 0xc15d213aa4d7a795

var rabinTable = func() (table [256]uint64) {
	for i := range table {
		fp := uint64(i)
		for range 8 {
			fp = fp>>1 ^ rabinEmpty&-(fp&1)
		}
		table[i] = fp
	}
	return table
}()

func rabin(b []byte) uint64 {
	fp := uint64(rabinEmpty)
	for _, c := range b {
		fp = fp>>8 ^ rabinTable[byte(fp)^c]
	}
	return fp
}
