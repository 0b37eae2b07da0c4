"""Forms of the account pages. They only parse; the actions decide."""

from __future__ import annotations

from django import forms


class KeepGuestForm(forms.Form):
    email = forms.EmailField(label="Email", widget=forms.EmailInput(attrs={"autocomplete": "email"}))
    password = forms.CharField(
        label="Password",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 8 characters, and not a common password.",
    )


class ProfileForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=120,
        required=False,
        help_text="Shown to members of your tenants and next to what you save.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )


class TokenForm(forms.Form):
    name = forms.CharField(label="What is it for?", max_length=80)
    days = forms.TypedChoiceField(
        label="Ends",
        coerce=int,
        initial=90,
        choices=[(7, "in a week"), (30, "in 30 days"), (90, "in 90 days"), (365, "in a year"), (0, "never")],
    )


class TenantForm(forms.Form):
    name = forms.CharField(label="Name", max_length=120)


class TenantSettingsForm(TenantForm):
    allow_guests = forms.BooleanField(
        label="Share links let in people without an account, as guests for a week", required=False
    )


class MemberForm(forms.Form):
    email = forms.EmailField(label="Email of their account")
    role = forms.ChoiceField(
        label="Role", choices=[("member", "Member"), ("admin", "Admin"), ("owner", "Owner")]
    )


class InvitationForm(forms.Form):
    email = forms.EmailField(label="For (a note for you)", required=False)
    role = forms.ChoiceField(
        label="Role", choices=[("member", "Member"), ("admin", "Admin"), ("owner", "Owner")]
    )


class DeleteAccountForm(forms.Form):
    confirm = forms.CharField(label="Type “delete” to confirm")

    def clean_confirm(self) -> str:
        value: str = self.cleaned_data["confirm"].strip().lower()
        if value != "delete":
            raise forms.ValidationError("Type the word delete.")
        return value
