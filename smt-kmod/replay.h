/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which messages were taken already: a sliding window (RFC 4303 3.4.3), built in user space too.
 *
 * Ids come in any order, a long message ends long after its younger ones: the window is wide. Only
 * authentic messages move it. What is older than the window counts as seen.
 */
#ifndef SMT_REPLAY_H
#define SMT_REPLAY_H

#define SMT_WINDOW	65536	/* messages, a power of two */
#define SMT_WINDOW_WORD	64

/**
 * struct smt_window - numbers seen
 * @top: one above the highest number seen
 * @seen: a bit for each of the SMT_WINDOW numbers below @top, by number modulo SMT_WINDOW
 */
struct smt_window {
	u64 top;
	u64 seen[SMT_WINDOW / SMT_WINDOW_WORD];
};

static inline u64 *smt_window_word(struct smt_window *w, u64 number)
{
	return &w->seen[number % SMT_WINDOW / SMT_WINDOW_WORD];
}

static inline u64 smt_window_bit(u64 number)
{
	return 1ULL << (number % SMT_WINDOW_WORD);
}

static inline bool smt_window_seen(struct smt_window *w, u64 number)
{
	if (number >= w->top)
		return false;
	if (w->top - number > SMT_WINDOW)
		return true;
	return *smt_window_word(w, number) & smt_window_bit(number);
}

/* Returns false when the number was seen, or is too old to know. */
static inline bool smt_window_take(struct smt_window *w, u64 number)
{
	if (smt_window_seen(w, number))
		return false;
	if (number >= w->top) {
		if (number - w->top >= SMT_WINDOW) {
			memset(w->seen, 0, sizeof(w->seen));
		} else {
			u64 n;

			for (n = w->top; n < number; n++)
				*smt_window_word(w, n) &= ~smt_window_bit(n);
		}
		w->top = number + 1;
	}
	*smt_window_word(w, number) |= smt_window_bit(number);
	return true;
}

#endif
