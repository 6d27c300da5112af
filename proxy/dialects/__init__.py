"""Anthropic Messages and OpenAI Responses, to and from chat completions: data in, data out."""
