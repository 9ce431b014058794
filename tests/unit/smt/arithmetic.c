// SPDX-License-Identifier: GPL-2.0-or-later
/* Asks smt-kmod's arithmetic; one question a line on stdin, the answer on stdout. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#include "replay.h"
#include "segment.h"

static void cut(u32 mtu, u32 gso, u32 secure, u32 data)
{
	struct smt_geometry g;

	if (!smt_geometry_init(&g, mtu, gso, secure)) {
		puts("none");
		return;
	}
	if (data > smt_segment_data(&g))
		data = smt_segment_data(&g);
	printf("%u %u %u %u %u %u %u\n", g.room, g.packets, smt_segment_data(&g), data,
	       smt_segment_framings(&g, data), smt_segment_packets(&g, data),
	       smt_segment_stream(&g, data));
}

static void learn(u32 first, u32 stream)
{
	struct smt_cut c;

	if (smt_cut_init(&c, first, stream))
		printf("%u %u %u %u\n", c.packets, c.framings, c.room, c.data);
	else
		puts("none");
}

static void take(struct smt_window *window, u64 number)
{
	bool seen = smt_window_seen(window, number);

	printf("%d %d\n", seen, smt_window_take(window, number));
}

int main(void)
{
	static struct smt_window window;
	unsigned long long a, b, c, d;
	char what[16];

	while (scanf("%15s %llu %llu %llu %llu", what, &a, &b, &c, &d) == 5) {
		if (!strcmp(what, "cut"))
			cut(a, b, c, d);
		else if (!strcmp(what, "learn"))
			learn(a, b);
		else if (!strcmp(what, "number"))
			printf("%llu %llu\n", (unsigned long long)smt_record_number(a, b),
			       (unsigned long long)smt_message_number(a));
		else if (!strcmp(what, "where"))
			printf("%u\n", smt_packet_offset(a, b, c, d));
		else if (!strcmp(what, "clear"))
			printf("%d\n", memset(&window, 0, sizeof(window)) ? 1 : 0);
		else if (!strcmp(what, "take"))
			take(&window, a);
		else
			return 1;
	}
	return 0;
}
