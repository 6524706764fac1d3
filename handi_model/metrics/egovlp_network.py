"""EgoVLP's two encoders (Lin et al., arXiv 2206.01670), for inference only.

The video encoder is that of Frozen in Time (Bain et al., arXiv 2104.00650): a vision transformer
whose blocks attend over time, then over space. TimeSformer, which transformers has, is another
network: its class token takes no part in the attention over time, and its block adds the output
of the attention over time to the sum that goes on; here only the attention over space sees it.

Parameters bear the names of the published checkpoint, and its shapes say the sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertModel

HEAD = 64
"""Width of an attention head, in both encoders."""

EPSILON = 1e-6
"""Of the video encoder's layer norms."""


class DividedAttention(nn.Module):
    """Attention of the patches over time or over space, each group with the class token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, frames: int, over_time: bool) -> Tensor:
        """(B, 1 + frames * patches, width) to the same; the class token, the first, sees all."""
        batch, count, width = tokens.shape
        heads = self.qkv(tokens).view(batch, count, 3, -1, HEAD).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(heads[0, :, :, :1], heads[1], heads[2])
        query, key, value = (self._grouped(part, frames, over_time) for part in heads)
        groups = functional.scaled_dot_product_attention(query[..., 1:, :], key, value)
        if over_time:
            groups = groups.transpose(2, 3)
        mixed = torch.cat([seen, groups.flatten(2, 3)], dim=2)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))

    @staticmethod
    def _grouped(part: Tensor, frames: int, over_time: bool) -> Tensor:
        """(B, heads, 1 + frames * patches, HEAD) to (B, heads, groups, 1 + members, HEAD)."""
        groups = part[:, :, 1:].unflatten(2, (frames, -1))
        if over_time:
            groups = groups.transpose(2, 3)
        first = part[:, :, None, :1].expand(-1, -1, groups.shape[2], -1, -1)
        return torch.cat([first, groups], dim=3)


class Feedforward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))


class SpaceTimeBlock(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = DividedAttention(width)
        self.timeattn = DividedAttention(width)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Feedforward(width, hidden)
        self.norm3 = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        timed = tokens + self.timeattn(self.norm3(tokens), frames, over_time=True)
        # Not `timed`: this is where Frozen in Time leaves TimeSformer.
        tokens = tokens + self.attn(self.norm1(timed), frames, over_time=False)
        return tokens + self.mlp(self.norm2(tokens))


class PatchEmbedding(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, patches, width)."""
        return self.proj(frames).flatten(2).transpose(1, 2)


class SpaceTimeTransformer(nn.Module):
    """A clip to one vector: the class token after the last block.

    Args:
        patches: of a frame.
        frames: the most that a clip may have.
    """

    def __init__(
        self, width: int, hidden: int, depth: int, patch: int, patches: int, frames: int
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.temporal_embed = nn.Parameter(torch.zeros(1, frames, width))
        self.blocks = nn.ModuleList([SpaceTimeBlock(width, hidden) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, L, 3, H, W) to (B, width)."""
        frames = clips.shape[1]
        patches = self.patch_embed(clips.flatten(0, 1)).unflatten(0, (-1, frames))
        times = self.temporal_embed[:, :frames, None]
        patches = patches + self.pos_embed[:, None, 1:] + times
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(clips), -1, -1)
        tokens = torch.cat([first, patches.flatten(1, 2)], dim=1)
        for block in self.blocks:
            tokens = block(tokens, frames)
        return self.norm(tokens)[:, 0]


class EgoVlpNetwork(nn.Module):
    """EgoVLP: clips and sentences to vectors of one space, not yet of unit length."""

    def __init__(
        self, video: SpaceTimeTransformer, text: DistilBertModel, width: int, joint: int
    ) -> None:
        super().__init__()
        self.video_model = video
        self.text_model = text
        self.vid_proj = nn.Sequential(nn.Linear(width, joint))
        self.txt_proj = nn.Sequential(nn.ReLU(), nn.Linear(text.config.dim, joint))

    @classmethod
    def of(cls, weights: dict[str, Tensor]) -> EgoVlpNetwork:
        """A network of the sizes that a checkpoint's weights have, which it holds.

        Raises:
            KeyError: if one of the weights that say a size is missing, naming it.
            RuntimeError: if the other weights do not fit them, or one is missing.
        """
        width, _, patch, _ = weights["video_model.patch_embed.proj.weight"].shape
        words, dim = weights["text_model.embeddings.word_embeddings.weight"].shape
        video = SpaceTimeTransformer(
            width=width,
            hidden=len(weights["video_model.blocks.0.mlp.fc1.weight"]),
            depth=_layers(weights, "video_model.blocks."),
            patch=patch,
            patches=weights["video_model.pos_embed"].shape[1] - 1,
            frames=weights["video_model.temporal_embed"].shape[1],
        )
        text = DistilBertConfig(
            vocab_size=words,
            dim=dim,
            n_heads=dim // HEAD,
            n_layers=_layers(weights, "text_model.transformer.layer."),
            hidden_dim=len(weights["text_model.transformer.layer.0.ffn.lin1.weight"]),
            max_position_embeddings=len(
                weights["text_model.embeddings.position_embeddings.weight"]
            ),
        )
        joint = len(weights["vid_proj.0.weight"])
        network = cls(video, DistilBertModel(text), width, joint)
        network.load_state_dict(weights)
        return network

    @property
    def image_size(self) -> int:
        """Side of the square frames, pixels."""
        patches = self.video_model.pos_embed.shape[1] - 1
        return round(patches**0.5) * self.video_model.patch_embed.proj.kernel_size[0]

    def video(self, clips: Tensor) -> Tensor:
        """(B, L, 3, S, S) to (B, joint width)."""
        return self.vid_proj(self.video_model(clips))

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, tokens) each to (B, joint width)."""
        states = self.text_model(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.txt_proj(states[:, 0])


def _layers(weights: dict[str, Tensor], prefix: str) -> int:
    numbers = {
        name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)
    }
    return len(numbers)
