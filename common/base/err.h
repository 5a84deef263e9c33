/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: one negative enum for the whole tree. X(symbol, number, "text", gRPC status).
 * A function returns 0 or one of these; what a person reads is a sentence made where it is known
 * what was wrong and what to do.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define ERRS(X)                                                                                    \
	X(NOMEM, -1, "out of memory", 8)                                                           \
	X(INVALID, -2, "invalid argument", 3)                                                      \
	X(NOT_FOUND, -3, "not found", 5)                                                           \
	X(EXISTS, -4, "already exists", 6)                                                         \
	X(FULL, -5, "capacity reached", 8)                                                         \
	X(UNEVEN, -6, "columns of different lengths", 3)                                           \
	X(MALFORMED, -7, "not a message of this protocol", 3)                                      \
	X(VERSION, -8, "no protocol version in common", 9)                                         \
	X(STALE, -9, "of an older epoch or incarnation", 9)                                        \
	X(BUSY, -10, "overloaded, try again later", 14)                                            \
	X(IO, -11, "input or output failed", 13)                                                   \
	X(TOO_BIG, -12, "larger than the limit", 8)                                                \
	X(STATE, -13, "not possible in this state", 9)                                             \
	X(UNAVAILABLE, -14, "service not reachable", 14)

enum err {
	ERR_OK = 0,
#define ERR_ENUM(symbol, number, text, status) ERR_##symbol = number,
	ERRS(ERR_ENUM)
#undef ERR_ENUM
};

static inline const char *err_text(int err)
{
	switch (err) {
#define ERR_TEXT(symbol, number, text, status)                                                     \
	case number:                                                                               \
		return text;
		ERRS(ERR_TEXT)
#undef ERR_TEXT
	}
	return err == 0 ? "ok" : "unknown error";
}

static inline int err_grpc_status(int err)
{
	switch (err) {
#define ERR_STATUS(symbol, number, text, status)                                                   \
	case number:                                                                               \
		return status;
		ERRS(ERR_STATUS)
#undef ERR_STATUS
	}
	return err == 0 ? 0 : 2; /* UNKNOWN */
}

#endif
