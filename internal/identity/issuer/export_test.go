package issuer

// RequestsAtOnce is how many one address may send before it is slowed.
const RequestsAtOnce = requestsAtOnce

// What a stranger can reach.
var (
	ReadToken   = readToken
	ReadRequest = readRequest
)
