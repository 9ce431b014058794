# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python binding packs what the C header declares, by a compiler's word."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3] / "smt-kmod"

PROBE = """
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <linux/smt.h>
static void dump(const void *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		printf("%02x", ((const unsigned char *)data)[i]);
	printf("\\n");
}
int main(void)
{
	struct smt_rpc rpc = { .id = 0x1122, .cookie = 0x3344, .flags = 5, .error = -6 };
	struct smt_crypto_info_aes_gcm_128 key = {
		.info.info = { TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128 },
		.peer_addr = inet_addr("10.77.0.2"), .peer_port = htons(4000),
	};
	struct smt_crypto_info_aes_gcm_256 any = {
		.info.info = { TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_256 }, .default_keys = 1,
	};
	memset(key.info.key, 'k', sizeof(key.info.key));
	memset(key.info.salt, 's', sizeof(key.info.salt));
	memset(any.info.key, 'k', sizeof(any.info.key));
	memset(any.info.salt, 's', sizeof(any.info.salt));
	dump(&rpc, sizeof(rpc));
	dump(&key, sizeof(key));
	dump(&any, sizeof(any));
	printf("%d %d %d %d %d %d\\n", IPPROTO_SMT, SMT_RPC, SMT_ABORT, SMT_INTEROP, SMT_SECURE,
		SMT_MAX_MESSAGE);
}
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.c").write_text(PROBE)
    include = ROOT / "include" / "uapi"
    command = ["cc", "-isystem", str(include), "-o", str(folder / "probe")]
    subprocess.run([*command, str(folder / "probe.c")], check=True, timeout=60)
    done = subprocess.run([folder / "probe"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def binding() -> ModuleType:
    spec = importlib.util.spec_from_file_location("smt_binding", ROOT / "tools" / "smt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_structures_are_those_of_the_header(said: list[str], binding: ModuleType) -> None:
    assert said[0] == binding._RPC.pack(0x1122, 0x3344, 5, -6).hex()
    peer = ("10.77.0.2", 4000)
    assert said[1] == binding.crypto_info(b"k" * 16, b"s" * 4, peer).hex()
    assert said[2] == binding.crypto_info(b"k" * 32, b"s" * 4, None).hex()


def test_numbers_are_those_of_the_header(said: list[str], binding: ModuleType) -> None:
    names = ["IPPROTO_SMT", "SMT_RPC", "SMT_ABORT", "SMT_INTEROP", "SMT_SECURE", "MAX_MESSAGE"]
    assert said[3].split() == [str(getattr(binding, name)) for name in names]


def test_keys_of_another_size_are_refused(binding: ModuleType) -> None:
    with pytest.raises(ValueError, match="16 or 32"):
        binding.crypto_info(b"k" * 24, b"s" * 4, None)
